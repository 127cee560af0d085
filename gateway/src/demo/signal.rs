//! Slow physical signals: what a sensor of the simulated plant reads, the same for the same seed.

use fastrand::Rng;
use std::f64::consts::TAU;
use std::time::Duration;

/// What a quantity does when nothing is wrong. Its unit is the quantity's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// The middle.
    pub(super) middle: f64,
    /// How far it swings to either side.
    pub(super) swing: f64,
    /// How long one swing takes, in seconds.
    pub(super) period_s: f64,
    /// The sensor's own noise, to either side.
    pub(super) noise: f64,
}

/// One sensor: a slow swing, some noise, and a hundredth as resolution.
#[derive(Debug)]
pub(super) struct Signal {
    shape: Shape,
    phase: f64,
    rng: Rng,
}

impl Signal {
    /// A sensor; its seed sets where in the swing it begins, and its noise.
    pub(super) fn new(shape: Shape, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let phase = rng.f64() * TAU;
        Self { shape, phase, rng }
    }

    /// What it reads so long after the start.
    pub(super) fn at(&mut self, elapsed: Duration) -> f64 {
        let Shape { middle, swing, period_s, noise } = self.shape;
        let angle = self.phase + TAU * elapsed.as_secs_f64() / period_s;
        let noise = noise * (2.0 * self.rng.f64() - 1.0);
        ((middle + swing * angle.sin() + noise) * 100.0).round() / 100.0
    }

    /// A reading far outside of what it ever does.
    pub(super) fn spike(&self) -> f64 {
        self.shape.middle + 6.0 * (self.shape.swing + self.shape.noise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { middle: 70.0, swing: 5.0, period_s: 60.0, noise: 0.2 };

    #[test]
    fn the_same_seed_gives_the_same_plant() {
        let run = |seed| {
            let mut signal = Signal::new(SHAPE, seed);
            (0..50).map(|second| signal.at(Duration::from_secs(second)).to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn it_moves_slowly_and_stays_within_its_swing_unless_it_spikes() {
        let mut signal = Signal::new(SHAPE, 1);
        let readings: Vec<f64> = (0..1_000).map(|step| signal.at(Duration::from_millis(step * 200))).collect();
        assert!(readings.iter().all(|reading| (64.7..=75.3).contains(reading)));
        assert!(readings.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 0.6));
        assert!(signal.spike() > 75.3 + 10.0);
    }
}
