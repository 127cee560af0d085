//! What people notice of the room: who gets in, who does not, and what is told of it.

use super::Action as A;
use super::*;
use crate::reading::{MonoMicros, UnixMicros};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tempfile::TempDir;

const NOW_US: UnixMicros = 1_790_000_000_000_000;
const PASSWORD: &str = "three calm words";
const OTHER: &str = "four other calm words";

struct Room {
    dir: TempDir,
    clock: Clock,
    access: Access,
}

impl Room {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(1, 0, NOW_US);
        let access = Access::open(dir.path(), clock.clone()).unwrap();
        Self { dir, clock, access }
    }

    /// A gateway that Eva has set up.
    async fn with_eva() -> Self {
        let room = Self::new();
        let token = room.access.set_up_token().unwrap();
        room.access.set_up(&token, "Eva", PASSWORD, here()).await.unwrap();
        room
    }

    /// Another program on the same directory, as the command line is.
    fn beside(&self) -> Access {
        Access::open(self.dir.path(), self.clock.clone()).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("access").join(name)
    }

    fn pass(&self, duration: Duration) {
        let mono_us = self.clock.mono_us() + u64::try_from(duration.as_micros()).unwrap();
        self.clock.set(mono_us, NOW_US + MonoMicros::cast_signed(mono_us));
    }

    /// The same gateway after a restart with a power cut, off for so long.
    fn restarted(&self, off: Duration) -> Access {
        let off_us = i64::try_from(off.as_micros()).unwrap();
        let clock = Clock::manual(2, 5_000_000, self.clock.tick().wall_us + off_us);
        let access = Access::open(self.dir.path(), clock).unwrap();
        access.keep_sessions();
        access
    }

    async fn actions(&self) -> Vec<Action> {
        let page = self.access.audit(None, PAGE_ENTRIES_MAX, AuditFilter::default()).await.unwrap();
        page.entries.iter().rev().map(|entry| entry.action).collect()
    }
}

fn here() -> IpAddr {
    "192.0.2.1".parse().unwrap()
}

fn by_eva() -> By {
    By::new(Who::person("Eva", Role::Administrator), here())
}

#[tokio::test]
async fn the_set_up_token_lets_one_administrator_in_once() {
    let room = Room::new();
    assert!(!room.access.is_set_up());
    let token = room.access.set_up_token().unwrap();
    assert!(token.len() >= "forebay".len() + 4 * 5 && token.starts_with("forebay-"), "{token}");
    assert_eq!(room.beside().set_up_token(), Some(token.clone()), "the same after a restart");
    assert_eq!(room.access.set_up("forebay-0000", "Eva", PASSWORD, here()).await, Err(SetUpError::WrongToken));
    let who = room.access.set_up(&token, " Eva ", PASSWORD, here()).await.unwrap();
    assert_eq!((who.name.as_str(), who.role), ("Eva", Some(Role::Administrator)));
    assert!(room.access.is_set_up() && room.access.set_up_token().is_none() && !room.file("set-up-token").exists());
    assert_eq!(room.access.set_up(&token, "Mallory", PASSWORD, here()).await, Err(SetUpError::Already));
    assert!(room.beside().set_up_token().is_none(), "a restart makes no new one");
}

#[tokio::test]
async fn of_two_who_set_up_at_the_same_moment_one_becomes_administrator() {
    let room = Room::new();
    let token = room.access.set_up_token().unwrap();
    let (one, other) = tokio::join!(
        room.access.set_up(&token, "Eva", PASSWORD, here()),
        room.access.set_up(&token, "Max", PASSWORD, here())
    );
    assert!(one.is_ok() != other.is_ok(), "{one:?}, {other:?}");
    assert_eq!(room.access.people().unwrap().len(), 1);
}

#[tokio::test]
async fn a_token_that_an_image_brings_along_is_used_and_a_short_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("access")).unwrap();
    let file = dir.path().join("access/set-up-token");
    fs::write(&file, "printed-on-the-label-77\n").unwrap();
    let access = Access::open(dir.path(), Clock::manual(1, 0, NOW_US)).unwrap();
    assert_eq!(access.set_up_token().as_deref(), Some("printed-on-the-label-77"));
    access.check_set_up_token("printed-on-the-label-77", here()).await.unwrap();
    fs::write(&file, "1234\n").unwrap();
    let error = Access::open(dir.path(), Clock::manual(1, 0, NOW_US)).unwrap_err().to_string();
    assert!(error.contains("shorter than 16 characters"), "{error}");
}

#[tokio::test]
async fn whoever_guesses_the_set_up_token_waits_and_a_bad_password_is_no_guess() {
    let room = Room::new();
    let token = room.access.set_up_token().unwrap();
    for _ in 0..10 {
        let error = room.access.set_up(&token, "Eva", "short", here()).await.unwrap_err();
        assert_eq!(error, SetUpError::Access(AccessError::Password(PasswordProblem::Short)));
    }
    for _ in 0..5 {
        assert_eq!(room.access.check_set_up_token("guess", here()).await, Err(SetUpError::WrongToken));
    }
    let error = room.access.set_up(&token, "Eva", PASSWORD, here()).await.unwrap_err();
    assert_eq!(error.to_string(), "too many attempts failed; try again in 1 s");
    room.pass(Duration::from_secs(1));
    room.access.set_up(&token, "Eva", PASSWORD, here()).await.unwrap();
}

#[tokio::test]
async fn who_is_signed_in_stays_so_over_a_power_cut_and_no_id_is_on_disk() {
    let room = Room::with_eva().await;
    room.access.keep_sessions();
    let eva = room.access.sign_in("Eva", PASSWORD, here()).await.unwrap().cookie_value;
    let again = room.restarted(Duration::from_secs(3_600));
    assert_eq!(again.session(&eva).unwrap().name, "Eva");
    let text = fs::read_to_string(room.file("sessions.json")).unwrap();
    assert!(!text.contains(&eva) && text.contains("Eva"), "{text}");
    assert_eq!(fs::metadata(room.file("sessions.json")).unwrap().permissions().mode() & 0o777, 0o600);
    // Off over night: as long as if it had run.
    assert!(room.restarted(Duration::from_secs(8 * 3_600)).session(&eva).is_none());
}

#[tokio::test]
async fn what_ended_before_a_restart_is_over_after_it() {
    let room = Room::with_eva().await;
    room.access.keep_sessions();
    room.access.add_person(&by_eva(), "Max", Role::Viewer, OTHER).await.unwrap();
    let (access, moment) = (&room.access, Duration::from_secs(1));
    let signed_out = access.sign_in("Eva", PASSWORD, here()).await.unwrap().cookie_value;
    access.sign_out(&signed_out, here()).await;
    let everywhere = access.sign_in("Eva", PASSWORD, here()).await.unwrap().cookie_value;
    access.sign_out_everywhere(&by_eva(), "Eva").await;
    let removed = access.sign_in("Max", OTHER, here()).await.unwrap().cookie_value;
    let by_tool = access.sign_in("Eva", PASSWORD, here()).await.unwrap().cookie_value;
    assert!(room.restarted(moment).session(&removed).is_some());
    access.remove_person(&by_eva(), "Max").await.unwrap();
    // A tool that runs beside the gateway and knows no session.
    room.beside().set_password(&By::tool(), "Eva", OTHER).await.unwrap();
    let again = room.restarted(moment);
    for cookie in [signed_out, everywhere, removed, by_tool] {
        assert!(again.session(&cookie).is_none());
    }
}

#[tokio::test]
async fn use_does_not_wear_the_card_and_is_known_after_an_orderly_end() {
    let room = Room::with_eva().await;
    room.access.keep_sessions();
    let eva = room.access.sign_in("Eva", PASSWORD, here()).await.unwrap().cookie_value;
    let written =
        || fs::metadata(room.file("sessions.json")).map(|meta| std::os::unix::fs::MetadataExt::ino(&meta)).unwrap();
    let (mut last, mut writes) = (written(), 0);
    for _ in 0..8 * 60 {
        room.pass(Duration::from_secs(60));
        assert!(room.access.session(&eva).is_some());
        room.access.tend().await;
        writes += u32::from(std::mem::replace(&mut last, written()) != last);
    }
    assert!((1..=16).contains(&writes), "{writes} writes in a shift");
    room.pass(Duration::from_secs(7 * 3_600));
    assert!(room.access.session(&eva).is_some());
    room.access.settle_sessions().await;
    assert!(room.restarted(Duration::from_secs(3_600)).session(&eva).is_some());
}

#[tokio::test]
async fn while_the_clock_is_not_set_nobody_is_signed_out_and_then_the_time_off_counts() {
    let room = Room::with_eva().await;
    room.access.keep_sessions();
    let eva = room.access.sign_in("Eva", PASSWORD, here()).await.unwrap().cookie_value;
    let clock = Clock::manual(2, 1_000_000, 0);
    let again = Access::open(room.dir.path(), clock.clone()).unwrap();
    again.keep_sessions();
    assert!(again.session_goes_on(&eva).is_some());
    clock.set(61_000_000, NOW_US + 9 * 3_600 * 1_000_000);
    again.tend().await;
    assert!(again.session_goes_on(&eva).is_none());
}

#[tokio::test]
async fn a_damaged_file_of_sessions_lets_nobody_in_and_a_large_one_is_not_read() {
    let room = Room::with_eva().await;
    room.access.keep_sessions();
    let eva = room.access.sign_in("Eva", PASSWORD, here()).await.unwrap().cookie_value;
    let whole = fs::read(room.file("sessions.json")).unwrap();
    for length in 0..whole.len() - 1 {
        if length % 17 == 0 {
            fs::write(room.file("sessions.json"), &whole[..length]).unwrap();
            assert!(room.restarted(Duration::from_secs(1)).session(&eva).is_none());
        }
    }
    fs::write(room.file("sessions.json"), vec![b' '; 1 << 20]).unwrap();
    assert!(room.restarted(Duration::from_secs(1)).session(&eva).is_none());
    fs::write(room.file("sessions.json"), whole).unwrap();
    assert!(room.restarted(Duration::from_secs(1)).session(&eva).is_some());
}

#[tokio::test]
async fn a_browser_that_signed_in_before_is_not_kept_out_by_who_guesses_beside_it() {
    let room = Room::with_eva().await;
    let known = room.access.sign_in("Eva", PASSWORD, here()).await.unwrap().device_value.unwrap();
    for _ in 0..5 {
        room.access.sign_in("Eva", "a wrong password", here()).await.unwrap_err();
    }
    let refused = room.access.sign_in("Eva", PASSWORD, here()).await;
    assert!(matches!(refused, Err(SignInError::TooMany { .. })), "{refused:?}");
    room.access.sign_in_with("Eva", PASSWORD, here(), Some(&known)).await.unwrap();
    let forged = "ab".repeat(known.len() / 2);
    assert!(room.access.sign_in_with("Eva", PASSWORD, here(), Some(&forged)).await.is_err());
    for _ in 0..5 {
        let wrong = room.access.sign_in_with("Eva", "a wrong password", here(), Some(&known)).await;
        assert_eq!(wrong, Err(SignInError::Wrong));
    }
    let refused = room.access.sign_in_with("Eva", PASSWORD, here(), Some(&known)).await;
    assert!(matches!(refused, Err(SignInError::TooMany { .. })), "whoever has it guesses no faster: {refused:?}");
}

#[tokio::test]
async fn everything_is_private_to_the_gateways_user() {
    let room = Room::with_eva().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(room.access.dir()), 0o700);
    for name in ["people.json", "audit.ndjson", "lock"] {
        assert_eq!(mode(&room.file(name)), 0o600, "{name}");
    }
    fs::set_permissions(room.access.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(mode(room.beside().dir()), 0o700, "made private again");
}

#[tokio::test]
async fn whoever_signs_in_gets_a_new_session_each_time_and_signing_out_ends_it() {
    let room = Room::with_eva().await;
    let one = room.access.sign_in("eva", PASSWORD, here()).await.unwrap();
    let two = room.access.sign_in("Eva", PASSWORD, here()).await.unwrap();
    assert_ne!(one.cookie_value, two.cookie_value);
    assert_eq!(one.who.name, "Eva");
    for chosen in ["", "chosen-by-someone-else", &"A".repeat(43)] {
        assert_eq!(room.access.session(chosen), None);
    }
    assert_eq!(room.access.session(&one.cookie_value).unwrap(), one.who);
    room.access.sign_out(&one.cookie_value, here()).await;
    assert_eq!(room.access.session(&one.cookie_value), None);
    assert!(room.access.session(&two.cookie_value).is_some());
    assert_eq!(room.access.sign_out_everywhere(&by_eva(), "EVA").await, 1);
    assert_eq!(room.access.session(&two.cookie_value), None);
    assert!(room.beside().session(&two.cookie_value).is_none());
}

#[tokio::test]
async fn a_session_that_is_not_used_is_over_after_a_shift() {
    let room = Room::with_eva().await;
    let signed_in = room.access.sign_in("Eva", PASSWORD, here()).await.unwrap();
    room.pass(SESSION_IDLE_MAX / 2);
    assert!(room.access.session(&signed_in.cookie_value).is_some());
    room.pass(SESSION_IDLE_MAX);
    assert!(room.access.session(&signed_in.cookie_value).is_none());
}

#[tokio::test]
async fn a_name_that_is_not_known_is_hashed_like_one_that_is() {
    let room = Room::with_eva().await;
    let before = room.access.0.passwords.computed();
    for (name, password) in [("Eva", "wrong"), ("Nobody", "wrong"), ("Nobody", &"x".repeat(10_000))] {
        assert_eq!(room.access.sign_in(name, password, here()).await, Err(SignInError::Wrong));
    }
    assert_eq!(room.access.0.passwords.computed() - before, 3);
}

#[tokio::test]
async fn guessing_is_slowed_and_written_down_and_whoever_is_signed_in_notices_nothing() {
    let room = Room::with_eva().await;
    let signed_in = room.access.sign_in("Eva", PASSWORD, here()).await.unwrap();
    let attacker: IpAddr = "198.51.100.66".parse().unwrap();
    let mut refused = 0;
    for _ in 0..30 {
        match room.access.sign_in("Eva", "wrong password", attacker).await {
            Err(SignInError::Wrong) => {}
            Err(SignInError::TooMany { after }) => {
                assert!(after <= Duration::from_secs(1));
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(refused, 25);
    assert!(room.access.session(&signed_in.cookie_value).is_some());
    room.access.sign_in("Eva", PASSWORD, here()).await.unwrap();
    let written = room.actions().await.into_iter().filter(|action| *action == Action::SignInRefused).count();
    assert_eq!(written, 20, "the others are counted");
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let room = Room::with_eva().await;
    let (access, by) = (&room.access, by_eva());
    access.add_person(&by, "Max", Role::Operator, PASSWORD).await.unwrap();
    assert_eq!(access.remove_person(&by, "Eva").await, Err(AccessError::LastAdministrator));
    assert_eq!(access.set_role(&by, "eva", Role::Viewer).await, Err(AccessError::LastAdministrator));
    access.set_role(&by, "Max", Role::Administrator).await.unwrap();
    access.remove_person(&by, "EVA").await.unwrap();
    assert_eq!(access.sign_in("Eva", PASSWORD, here()).await, Err(SignInError::Wrong));
    assert_eq!(access.remove_person(&by, "Max").await, Err(AccessError::LastAdministrator));
}

#[tokio::test]
async fn another_role_counts_at_once_and_another_password_ends_the_sessions() {
    let room = Room::with_eva().await;
    let (access, by) = (&room.access, by_eva());
    access.add_person(&by, "Max", Role::Viewer, PASSWORD).await.unwrap();
    let max = access.sign_in("Max", PASSWORD, here()).await.unwrap();
    // By another program, while the gateway runs.
    room.beside().set_role(&By::tool(), "Max", Role::Operator).await.unwrap();
    assert!(access.session(&max.cookie_value).unwrap().may(Right::Operate));
    room.beside().set_password(&By::tool(), "Max", OTHER).await.unwrap();
    assert_eq!(access.session(&max.cookie_value), None);
    assert_eq!(access.sign_in("Max", PASSWORD, here()).await, Err(SignInError::Wrong));
    let max = access.sign_in("Max", OTHER, here()).await.unwrap();
    assert_eq!(
        access.change_own_password("Max", PASSWORD, "yet another one", here()).await,
        Err(SignInError::Wrong),
        "the old password is asked for"
    );
    let fresh = access.change_own_password("Max", OTHER, "yet another one", here()).await.unwrap();
    assert_eq!(access.session(&max.cookie_value), None);
    assert_eq!(access.session(&fresh.cookie_value).unwrap().name, "Max");
}

#[tokio::test]
async fn a_file_of_people_that_is_damaged_or_gone_lets_nobody_in_and_nobody_set_up() {
    let room = Room::with_eva().await;
    let cookie = room.access.sign_in("Eva", PASSWORD, here()).await.unwrap().cookie_value;
    let token = room.access.make_token(&by_eva(), "scada", Rights::all(), None).await.unwrap().token;
    let good = fs::read_to_string(room.file("people.json")).unwrap();
    let no_administrator = good.replace("administrator", "viewer");
    for bad in ["", "{}", "null", "[]", &good[..good.len() / 2], &no_administrator, &" ".repeat(300_000)] {
        fs::write(room.file("people.json"), bad).unwrap();
        for access in [&room.access, &room.beside()] {
            assert!(access.is_set_up() && access.set_up_token().is_none());
            assert!(access.session(&cookie).is_none() && access.token(&token).is_none());
            assert!(matches!(access.sign_in("Eva", PASSWORD, here()).await, Err(SignInError::Access(_))));
            assert!(access.set_up("x", "Mallory", PASSWORD, here()).await.is_err());
            assert!(access.add_person(&By::tool(), "Mallory", Role::Administrator, PASSWORD).await.is_err());
            let told = access.problem().unwrap().to_string();
            assert!(told.contains("people.json"), "{told}");
        }
        assert_eq!(fs::read_to_string(room.file("people.json")).unwrap(), bad, "left as it is, to be looked at");
    }
    fs::remove_file(room.file("people.json")).unwrap();
    assert!(room.access.is_set_up() && room.access.session(&cookie).is_none());
    fs::write(room.file("people.json"), good).unwrap();
    assert_eq!(room.access.problem(), None);
    assert!(room.access.session(&cookie).is_some() && room.access.token(&token).is_some(), "mended, as before");
}

#[tokio::test]
async fn a_token_works_until_it_ends_or_is_revoked_and_only_its_digest_is_kept() {
    let room = Room::with_eva().await;
    let (access, by) = (&room.access, by_eva());
    let rights: Rights = [Right::Metrics].into_iter().collect();
    let made = access.make_token(&by, "prometheus", rights.clone(), Some(NOW_US + 1_000_000)).await.unwrap();
    let who = access.token(&made.token).unwrap();
    assert!(who.may(Right::Metrics) && !who.may(Right::See) && who.kind == Kind::Token);
    let listed = access.tokens().unwrap();
    assert_eq!((listed[0].made_by.as_str(), listed[0].used_us), ("Eva", Some(NOW_US - NOW_US % 60_000_000)));
    for file in ["people.json", "audit.ndjson"] {
        assert!(!fs::read_to_string(room.file(file)).unwrap().contains(&made.token), "{file}");
    }
    assert_eq!(access.make_token(&by, "Prometheus", rights.clone(), None).await.unwrap_err().field(), Some("name"));
    room.pass(Duration::from_secs(1));
    assert_eq!(access.token(&made.token), None, "it has ended");
    let made = access.make_token(&by, "scada", rights, None).await.unwrap();
    assert!(access.token(&made.token).is_some());
    room.beside().revoke_token(&By::tool(), "SCADA").await.unwrap();
    assert_eq!(access.token(&made.token), None);
    assert!(access.make_token(&by, "nothing", Rights::default(), None).await.is_err());
}

#[tokio::test]
async fn a_token_with_an_end_is_not_in_force_while_the_clock_was_never_set() {
    let room = Room::with_eva().await;
    let made = room.access.make_token(&by_eva(), "scada", Rights::all(), Some(NOW_US + 10)).await.unwrap();
    room.clock.set(1, 0);
    assert_eq!(room.access.token(&made.token), None);
}

#[tokio::test]
async fn names_that_would_be_mistaken_and_passwords_that_are_guessed_are_refused() {
    let room = Room::with_eva().await;
    let (access, by) = (&room.access, by_eva());
    let long = "x".repeat(65);
    for name in ["", "  ", "a\tb", "Ev\u{200b}a", "\u{202e}avE", "Root on this Machine", "a  b", &long] {
        let error = access.add_person(&by, name, Role::Viewer, PASSWORD).await.unwrap_err();
        assert!(matches!(error, AccessError::Name(_)), "{name:?}: {error}");
    }
    let long = "x y".repeat(100);
    for password in ["", "ninechars", "Password123", "QWERTYUIOP", "aaaaaaaaaaaa", "Max Miller", &long] {
        let error = access.add_person(&by, "max miller", Role::Viewer, password).await.unwrap_err();
        assert_eq!(error.field(), Some("password"), "{password:?}: {error}");
    }
    assert_eq!(access.add_person(&by, "EVA", Role::Viewer, PASSWORD).await, Err(AccessError::Taken("EVA".to_owned())));
    access.add_person(&by, "Jürgen Müller-Lüdenscheidt", Role::Viewer, PASSWORD).await.unwrap();
}

#[tokio::test]
async fn what_is_done_is_in_the_audit_log_with_who_and_from_where_and_never_a_secret() {
    let room = Room::new();
    room.access.add_person(&By::tool(), "Eva", Role::Administrator, PASSWORD).await.unwrap();
    assert!(room.access.is_set_up() && room.access.set_up_token().is_none(), "the first person closes the set-up");
    let cookie = room.access.sign_in("Eva", PASSWORD, here()).await.unwrap().cookie_value;
    assert!(room.access.sign_in("my own password in the wrong field", PASSWORD, here()).await.is_err());
    room.access.add_person(&by_eva(), "Max", Role::Viewer, OTHER).await.unwrap();
    room.access.set_role(&by_eva(), "Max", Role::Operator).await.unwrap();
    room.access.sign_out(&cookie, here()).await;
    let expected = [A::PersonAdded, A::SignedIn, A::SignInRefused, A::PersonAdded, A::RoleChanged, A::SignedOut];
    assert_eq!(room.actions().await, expected);
    let text = fs::read_to_string(room.file("audit.ndjson")).unwrap();
    for secret in [PASSWORD, OTHER, &cookie, "wrong field", "argon2"] {
        assert!(!text.contains(secret), "{secret}");
    }
    let filter = AuditFilter { action: Some(Action::RoleChanged), ..AuditFilter::default() };
    let page = room.access.audit(None, 10, filter).await.unwrap();
    let entry = &page.entries[0];
    assert_eq!((entry.who.as_str(), entry.from.as_deref()), ("Eva", Some("192.0.2.1")));
    assert_eq!((entry.subject.as_str(), entry.detail.as_str()), ("Max", "viewer → operator"));
    let first = room.access.audit(None, 10, AuditFilter::default()).await.unwrap().entries.pop().unwrap();
    assert_eq!((first.who.as_str(), first.kind, first.from), ("root on this machine", Kind::Tool, None));
}

#[tokio::test]
async fn two_programs_that_change_people_at_the_same_time_lose_nothing() {
    let room = Room::with_eva().await;
    let other = room.beside();
    let rights: Rights = [Right::See].into_iter().collect();
    let by = by_eva();
    for round in 0..5 {
        let names = [format!("gateway {round}"), format!("tool {round}")];
        let (one, two) = tokio::join!(
            room.access.make_token(&by, &names[0], rights.clone(), None),
            other.make_token(&by, &names[1], rights.clone(), None)
        );
        one.unwrap();
        two.unwrap();
    }
    assert_eq!(room.access.tokens().unwrap().len(), 10);
    assert_eq!(room.actions().await.len(), 11);
}

#[tokio::test]
async fn more_passwords_at_once_than_may_wait_are_sent_away_and_do_not_count_as_failures() {
    let room = Room::with_eva().await;
    let tries = (0..60_u8).map(|host| {
        let access = room.access.clone();
        async move { access.sign_in(&format!("name {host}"), "wrong password", IpAddr::from([10, 0, 0, host])).await }
    });
    let answers = futures_util::future::join_all(tries).await;
    let busy = answers.iter().filter(|answer| **answer == Err(SignInError::Access(AccessError::Busy))).count();
    assert!((40..=44).contains(&busy), "{busy}");
    room.access.sign_in("Eva", PASSWORD, here()).await.unwrap();
}
