//! Try-outs and searches that someone waits for: a few at a time, what they found kept for a while so that a page can ask how far
//! they are.

use super::typed::Borrowed;
use crate::sinks::SinkOptions;
use crate::sources::SourceOptions;
use crate::sources::discover::{
    self, DiscoverError, Heard, ListenRequest, ModbusAnswer, ModbusQuestion, TopicSearch, TopicSeen,
};
use crate::tryout::{Step, TRY_OUT_LIMIT, TryReport};
use crate::web::change::{Look, by_whom};
use crate::web::failure::Failure;
use crate::web::visit::Visit;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Most try-outs and searches at once: each holds a connection, and a broker's topics or a bus's answers; a person waits for one.
const JOBS_MAX: usize = 4;

/// Most of them of one person or token, so that nobody keeps the others waiting with all of them.
const OWN_JOBS_MAX: usize = 2;

/// Most of them whose findings are kept.
const KEPT_MAX: usize = 8;

/// How long findings are kept after the last look: someone reads them, and uses one.
const KEPT_FOR: Duration = Duration::from_secs(120);

/// When a refused one may be tried again, in seconds.
const RETRY_AFTER_S: u64 = 5;

/// Steps, topics and speeds that are told while it goes on; the findings at the end have all of them.
const TOLD_MAX: usize = 64;

/// What someone waits for.
#[derive(Debug)]
pub(in crate::web) enum Task {
    /// Trying a source.
    Source(Box<SourceOptions>),
    /// Trying a way upstream, for the gateway of this name.
    Sink(String, Box<SinkOptions>),
    /// Listening to a broker.
    Topics(TopicSearch),
    /// Listening on a serial port.
    Serial(ListenRequest),
    /// Asking a Modbus device, for a list of registers.
    Modbus(ModbusQuestion, String),
}

/// What was found so far.
#[derive(Clone, Debug, Default)]
pub(in crate::web) struct Findings {
    /// The steps of a try-out.
    pub(in crate::web) steps: Vec<Step>,
    /// What a try-out came to.
    pub(in crate::web) report: Option<TryReport>,
    /// Topics, by name.
    pub(in crate::web) topics: BTreeMap<String, TopicSeen>,
    /// What was heard on a serial line.
    pub(in crate::web) heard: Vec<Heard>,
    /// What a device answered.
    pub(in crate::web) answer: Option<ModbusAnswer>,
    /// The question that it answered.
    pub(in crate::web) question: Option<ModbusQuestion>,
    /// The list that its registers may go into.
    pub(in crate::web) list: String,
    /// Why nothing was found.
    pub(in crate::web) error: Option<DiscoverError>,
    /// Whether it is over.
    pub(in crate::web) over: bool,
}

/// One that goes on or is over.
#[derive(Debug)]
pub(in crate::web) struct Job {
    /// Its number.
    pub(in crate::web) id: u64,
    /// What kind of task it is: `try`, `topics`, `serial`, `modbus`.
    pub(in crate::web) kind: &'static str,
    begun: Instant,
    looked: Mutex<Instant>,
    findings: watch::Sender<Findings>,
}

/// Those that go on, and those that are over.
#[derive(Debug)]
pub(in crate::web) struct Jobs {
    slots: Arc<Semaphore>,
    held: Arc<Mutex<BTreeMap<String, usize>>>,
    inner: Mutex<Inner>,
}

/// A place among those that go on, given back when it is dropped.
#[derive(Debug)]
pub(in crate::web) struct JobSlot {
    held: Arc<Mutex<BTreeMap<String, usize>>>,
    name: String,
    _permit: OwnedSemaphorePermit,
}

impl Drop for JobSlot {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        if let Some(own) = held.get_mut(&self.name) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                held.remove(&self.name);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    tasks: JoinSet<()>,
    kept: BTreeMap<u64, Arc<Job>>,
    last: u64,
}

impl Default for Jobs {
    fn default() -> Self {
        Self { slots: Arc::new(Semaphore::new(JOBS_MAX)), held: Arc::default(), inner: Mutex::default() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Jobs {
    /// A place for one more.
    pub(in crate::web) fn slot(&self, visit: &Visit) -> Result<JobSlot, Failure> {
        let refused =
            |sentence: String| Failure { retry_after_s: Some(RETRY_AFTER_S), ..Failure::unavailable(sentence) };
        let name = by_whom(visit);
        let mut held = lock(&self.held);
        if held.get(&name).is_some_and(|own| *own >= OWN_JOBS_MAX) {
            return Err(refused(format!(
                "{OWN_JOBS_MAX} try-outs or searches of yours are under way already; wait a few seconds, then try again"
            )));
        }
        let permit = self.slots.clone().try_acquire_owned().map_err(|_| {
            refused(format!(
                "{JOBS_MAX} try-outs or searches are under way already; wait a few seconds, then try again"
            ))
        })?;
        *held.entry(name.clone()).or_default() += 1;
        Ok(JobSlot { held: self.held.clone(), name, _permit: permit })
    }

    /// Begins one beside everything else; `borrowed` goes when it is over.
    pub(in crate::web) fn begin(
        &self,
        visit: &Visit,
        task: Task,
        running: Vec<SourceOptions>,
        borrowed: Vec<Borrowed>,
    ) -> Result<Arc<Job>, Failure> {
        let slot = self.slot(visit)?;
        let mut inner = lock(&self.inner);
        while inner.tasks.try_join_next().is_some() {}
        inner.kept.retain(|_, job| !job.findings.borrow().over || lock(&job.looked).elapsed() < KEPT_FOR);
        while inner.kept.len() >= KEPT_MAX {
            let oldest = inner.kept.iter().find(|(_, job)| job.findings.borrow().over).map(|(id, _)| *id);
            match oldest {
                Some(id) => inner.kept.remove(&id),
                None => break,
            };
        }
        inner.last += 1;
        let now = Instant::now();
        let (findings, _) = watch::channel(Findings::default());
        let job = Arc::new(Job { id: inner.last, kind: task.kind(), begun: now, looked: Mutex::new(now), findings });
        inner.kept.insert(job.id, job.clone());
        let told = job.clone();
        inner.tasks.spawn(async move {
            told.run(task, &running).await;
            told.findings.send_modify(|findings| findings.over = true);
            drop((slot, borrowed));
        });
        Ok(job)
    }

    /// One of them by its number.
    pub(in crate::web) fn job(&self, id: u64) -> Option<Arc<Job>> {
        let job = lock(&self.inner).kept.get(&id).cloned()?;
        *lock(&job.looked) = Instant::now();
        Some(job)
    }
}

impl Task {
    fn kind(&self) -> &'static str {
        match self {
            Self::Source(_) | Self::Sink(..) => "try",
            Self::Topics(_) => "topics",
            Self::Serial(_) => "serial",
            Self::Modbus(..) => "modbus",
        }
    }

    /// What it does, for the audit log.
    pub(in crate::web) fn look(&self) -> Look<'_> {
        match self {
            Self::Source(source) => source_look(source),
            Self::Sink(_, sink) => sink_look(sink),
            Self::Topics(search) => topics_look(search),
            Self::Serial(request) => serial_look(request),
            Self::Modbus(question, _) => modbus_look(question),
        }
    }
}

impl Job {
    /// What was found so far.
    pub(in crate::web) fn findings(&self) -> Findings {
        self.findings.borrow().clone()
    }

    /// How long it has gone on.
    pub(in crate::web) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Waits until it is over, at most for this long.
    pub(in crate::web) async fn wait(&self, at_most: Duration) {
        let mut findings = self.findings.subscribe();
        // Whether it is over or the time is: what was found until then is shown.
        _ = timeout(at_most, findings.wait_for(|findings| findings.over)).await;
    }

    async fn run(&self, task: Task, running: &[SourceOptions]) {
        match task {
            Task::Source(source) => {
                let (tell, told) = mpsc::channel(TOLD_MAX);
                let report = self.follow(source.try_out(running, Some(tell), TRY_OUT_LIMIT), told, note_step).await;
                self.findings.send_modify(|findings| findings.end(report));
            }
            Task::Sink(gateway, sink) => {
                let (tell, told) = mpsc::channel(TOLD_MAX);
                let report = self.follow(sink.try_out(&gateway, Some(tell), TRY_OUT_LIMIT), told, note_step).await;
                self.findings.send_modify(|findings| findings.end(report));
            }
            Task::Topics(search) => {
                let (tell, told) = mpsc::channel(TOLD_MAX);
                let note = |findings: &mut Findings, seen: TopicSeen| {
                    findings.topics.insert(seen.topic.clone(), seen);
                };
                match self.follow(discover::mqtt_topics(&search, Some(tell)), told, note).await {
                    Ok(found) => self.findings.send_modify(|findings| {
                        findings.topics = found.topics.into_iter().map(|seen| (seen.topic.clone(), seen)).collect();
                        findings.error = found.ended_early;
                    }),
                    Err(error) => self.fail(error),
                }
            }
            Task::Serial(request) => {
                let (tell, told) = mpsc::channel(TOLD_MAX);
                let note = |findings: &mut Findings, heard: Heard| findings.heard.push(heard);
                match self.follow(discover::listen_serial(&request, running, Some(tell)), told, note).await {
                    Ok(heard) => self.findings.send_modify(|findings| findings.heard = heard),
                    Err(error) => self.fail(error),
                }
            }
            Task::Modbus(question, list) => match discover::modbus_read_once(&question, running).await {
                Ok(answer) => self.findings.send_modify(|findings| {
                    findings.answer = Some(answer);
                    findings.question = Some(question);
                    findings.list = list;
                }),
                Err(error) => self.fail(error),
            },
        }
    }

    fn fail(&self, error: DiscoverError) {
        self.findings.send_modify(|findings| findings.error = Some(error));
    }

    /// Notes what is told while the work goes on.
    async fn follow<T, W>(
        &self,
        work: impl Future<Output = T>,
        mut told: mpsc::Receiver<W>,
        note: impl Fn(&mut Findings, W),
    ) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                Some(one) = told.recv() => self.findings.send_modify(|findings| note(findings, one)),
                done = &mut work => return done,
            }
        }
    }
}

impl Findings {
    fn end(&mut self, report: TryReport) {
        self.steps.clone_from(&report.steps);
        self.report = Some(report);
    }
}

/// Trying a source, for the audit log.
pub(in crate::web) fn source_look(source: &SourceOptions) -> Look<'_> {
    let what = format!("tried source {:?} ({})", source.name(), source.kind());
    Look { what, address: source.address().to_owned(), secret: source.secret_file().map(|(_, file)| file) }
}

/// Trying a way upstream.
pub(in crate::web) fn sink_look(sink: &SinkOptions) -> Look<'_> {
    let what = format!("tried sink {:?} ({})", sink.name(), sink.kind());
    Look { what, address: sink.address(), secret: sink.secret_file().map(|(_, file)| file) }
}

/// Listening to a broker.
pub(in crate::web) fn topics_look(search: &TopicSearch) -> Look<'_> {
    let what = "listened to a broker".to_owned();
    Look { what, address: search.url.clone(), secret: search.password_file.as_ref() }
}

/// Listening on a serial port.
pub(in crate::web) fn serial_look(request: &ListenRequest) -> Look<'_> {
    Look { what: "listened on a serial port".to_owned(), address: request.port.clone(), secret: None }
}

/// Asking a Modbus device.
pub(in crate::web) fn modbus_look(question: &ModbusQuestion) -> Look<'_> {
    Look { what: "asked a Modbus device".to_owned(), address: question.url.clone(), secret: None }
}

/// A step is told when it begins and when it is over.
fn note_step(findings: &mut Findings, step: Step) {
    match findings.steps.get_mut(step.position) {
        Some(known) => *known = step,
        None => findings.steps.push(step),
    }
}
