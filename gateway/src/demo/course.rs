//! The course of the demo: when the endpoint is away, and when it is all over.

/// Without an end, the endpoint goes away in this second of every minute, until the minute is over.
const AWAY_FROM_S: u64 = 40;
const MINUTE_S: u64 = 60;

/// The course, in seconds since the plant started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    /// When it ends by itself.
    pub(super) seconds: Option<u64>,
}

impl Course {
    /// Whether the endpoint is away.
    pub(super) fn is_away(self, second: u64) -> bool {
        match self.seconds {
            Some(end) => (end / 3..end - end / 3).contains(&second),
            None => second % MINUTE_S >= AWAY_FROM_S,
        }
    }

    /// Whether the plant stops.
    pub(super) fn is_over(self, second: u64) -> bool {
        self.seconds.is_some_and(|end| second >= end)
    }

    /// What is going to happen, for a person.
    pub(super) fn words(self) -> String {
        let Some(end) = self.seconds else {
            let away_s = MINUTE_S - AWAY_FROM_S;
            return format!("until Ctrl-C; the endpoint is away for the last {away_s} s of every minute");
        };
        format!("{end} s; the endpoint is away for the middle third")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_is_away_for_the_middle_third() {
        let course = Course { seconds: Some(30) };
        let away: Vec<u64> = (0..40).filter(|second| course.is_away(*second)).collect();
        assert_eq!(away, (10..20).collect::<Vec<_>>());
        assert!(!course.is_over(29));
        assert!(course.is_over(30));
        assert!((0..3).all(|second| !Course { seconds: Some(0) }.is_away(second)));
    }

    #[test]
    fn without_an_end_it_is_away_once_a_minute() {
        let course = Course { seconds: None };
        assert_eq!((0..180).filter(|second| course.is_away(*second)).count(), 60);
        assert!(!course.is_away(0));
        assert!(!course.is_over(u64::MAX));
    }
}
