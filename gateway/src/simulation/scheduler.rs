//! The scheduler of a simulated gateway: polls its tasks in an order drawn by chance, and ends all of them at once in a crash.
//!
//! It is one future on a runtime whose clock is paused: while any task is ready, no time passes; when none is, the clock jumps
//! to the next timer. So hours pass in milliseconds, and the same draws give the same life.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use tokio::sync::oneshot;

/// So many polls without any time passing are a busy loop: a commit of a few thousand readings takes some dozens.
const POLLS_AT_ONCE_MAX: u64 = 50_000;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Takes tasks in.
#[derive(Clone, Default)]
pub(super) struct Spawner(Rc<RefCell<Vec<(&'static str, Task)>>>);

impl Spawner {
    /// Runs a task beside the others; the answer comes when it has ended.
    pub(super) fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + 'static) -> oneshot::Receiver<()> {
        let (ended, end) = oneshot::channel();
        let task = async move {
            task.await;
            ended.send(()).ok();
        };
        self.0.borrow_mut().push((name, Box::pin(task)));
        end
    }
}

/// Says that a task has something to do.
struct Flag {
    is_ready: AtomicBool,
    outer: Arc<Mutex<Option<Waker>>>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.is_ready.store(true, Ordering::SeqCst);
        let outer = self.outer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(outer) = outer {
            outer.wake();
        }
    }
}

struct Slot {
    name: &'static str,
    task: Task,
    flag: Arc<Flag>,
    waker: Waker,
}

/// What happens around each poll.
pub(super) trait Around<End> {
    /// Called before each choice of a task: time may have passed, messages arrived, the life ended.
    fn turn(&mut self) -> Option<End>;
    /// Whether a task may be polled now; if not, something must wake the life later.
    fn may_poll(&mut self, name: &'static str, context: &mut Context<'_>) -> bool;
    /// The end of a life in which nothing but polling goes on.
    fn is_busy(&mut self, name: &'static str) -> End;
    /// Chooses one of so many ready tasks.
    fn choose(&mut self, ready: usize) -> usize;
    /// The simulated time, in microseconds.
    fn now_us(&self) -> u64;
}

/// Runs tasks until `around` says that the life is over; then all of them are gone, wherever they were.
pub(super) async fn live<End>(spawner: Spawner, around: &mut impl Around<End>) -> (End, u64) {
    let outer: Arc<Mutex<Option<Waker>>> = Arc::default();
    let mut slots: Vec<Slot> = Vec::new();
    let (mut polls, mut polls_at_once, mut last_us) = (0, 0, 0);
    // Not budgeted: a budget would be spent by the life as a whole, not by its tasks.
    let life = poll_fn(|context: &mut Context<'_>| {
        *outer.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
        loop {
            for (name, task) in spawner.0.borrow_mut().drain(..) {
                let flag = Arc::new(Flag { is_ready: AtomicBool::new(true), outer: outer.clone() });
                slots.push(Slot { name, task, waker: flag.clone().into(), flag });
            }
            if let Some(end) = around.turn() {
                return Poll::Ready((end, polls));
            }
            let mut ready = Vec::with_capacity(slots.len());
            for (index, slot) in slots.iter().enumerate() {
                if slot.flag.is_ready.load(Ordering::SeqCst) && around.may_poll(slot.name, context) {
                    ready.push(index);
                }
            }
            if ready.is_empty() {
                return Poll::Pending;
            }
            let index = ready[around.choose(ready.len())];
            let slot = &mut slots[index];
            polls += 1;
            let now_us = around.now_us();
            polls_at_once = if now_us == last_us { polls_at_once + 1 } else { 0 };
            last_us = now_us;
            if polls_at_once > POLLS_AT_ONCE_MAX {
                return Poll::Ready((around.is_busy(slot.name), polls));
            }
            slot.flag.is_ready.store(false, Ordering::SeqCst);
            let waker = slot.waker.clone();
            if slot.task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                slots.remove(index);
            }
        }
    });
    tokio::task::unconstrained(life).await
}
