//! The universal scalability law, fitted to measured points.
//!
//! X(N) = λN / (1 + α(N-1) + βN(N-1)), with X the throughput at N workers or clients, λ that of one, α the share that
//! is done one after another (contention) and β what keeping up with the others costs (coherency). N. J. Gunther, "A
//! General Theory of Computational Scalability Based on Rational Functions", arXiv:0808.1431.

/// Points of different N that a fit needs: three parameters go through any three points, and say nothing of a fourth.
pub(super) const POINTS_MIN: usize = 5;
/// Steps of the descent; it stands still after some ten.
const STEPS_MAX: u32 = 200;

/// A fit, and how good it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fit {
    /// Throughput at N = 1, in the unit of the points.
    pub(super) lambda: f64,
    /// Contention.
    pub(super) alpha: f64,
    /// Coherency.
    pub(super) beta: f64,
    /// Coefficient of determination, of throughput: 1 is a curve through every point.
    pub(super) r2: f64,
}

impl Fit {
    /// Throughput that the fit says of `n`.
    pub(super) fn at(&self, n: f64) -> f64 {
        law(self.lambda, self.alpha, self.beta, n)
    }

    /// Where throughput is greatest; `None` where it never falls, or does from the start.
    pub(super) fn peak(&self) -> Option<f64> {
        (self.beta > 1e-12 && self.alpha < 1.0).then(|| ((1.0 - self.alpha) / self.beta).sqrt())
    }
}

fn law(lambda: f64, alpha: f64, beta: f64, n: f64) -> f64 {
    lambda * n / divisor(alpha, beta, n)
}

fn divisor(alpha: f64, beta: f64, n: f64) -> f64 {
    1.0 + alpha * (n - 1.0) + beta * n * (n - 1.0)
}

/// Least squares of throughput, from a start by linear least squares of N/X, which is a parabola in N. Neither α nor β is
/// let below zero: a negative cost is noise, and would make the law say that more is better for ever.
///
/// # Errors
/// A sentence: too few points, or points that no law can be fitted to.
pub(super) fn fit(points: &[(f64, f64)]) -> Result<Fit, String> {
    let mut places: Vec<f64> = points.iter().map(|point| point.0).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    if places.len() < POINTS_MIN {
        return Err(format!(
            "no fit of the universal scalability law: {} different points, and {POINTS_MIN} are needed",
            places.len()
        ));
    }
    if points
        .iter()
        .any(|&(n, x)| !(n >= 1.0 && n.is_finite() && x > 0.0 && x.is_finite()))
    {
        return Err("no fit of the universal scalability law: a point without throughput".to_owned());
    }
    let mean = points.iter().map(|point| point.1).sum::<f64>() / points.len() as f64;
    let spread: f64 = points.iter().map(|point| (point.1 - mean).powi(2)).sum();
    if spread <= 0.0 {
        return Err("no fit of the universal scalability law: throughput is the same everywhere".to_owned());
    }
    let mut at = start(points);
    let mut error = residual(points, at);
    let mut damping = 1e-3;
    for _ in 0..STEPS_MAX {
        let Some(step) = step(points, at, damping) else { break };
        let next = [
            (at[0] + step[0]).max(1e-9),
            (at[1] + step[1]).max(0.0),
            (at[2] + step[2]).max(0.0),
        ];
        let then = residual(points, next);
        if then < error {
            let gained = (error - then) / error.max(f64::MIN_POSITIVE);
            (at, error, damping) = (next, then, damping / 3.0);
            if gained < 1e-12 {
                break;
            }
        } else {
            damping *= 5.0;
            if damping > 1e12 {
                break;
            }
        }
    }
    let [lambda, alpha, beta] = at;
    Ok(Fit {
        lambda,
        alpha,
        beta,
        r2: 1.0 - error / spread,
    })
}

/// A parabola through N/X: its coefficients are 1/λ, α/λ and β/λ.
fn start(points: &[(f64, f64)]) -> [f64; 3] {
    let mut sums = [[0.0; 3]; 3];
    let mut right = [0.0; 3];
    for &(n, x) in points {
        add(&mut sums, &mut right, [1.0, n - 1.0, n * (n - 1.0)], n / x);
    }
    let first = points.iter().map(|&(n, x)| x / n).fold(0.0, f64::max);
    match solve(sums, right) {
        Some([a, b, c]) if a > 0.0 => [1.0 / a, (b / a).max(0.0), (c / a).max(0.0)],
        _ => [first, 0.01, 0.0001],
    }
}

fn residual(points: &[(f64, f64)], [lambda, alpha, beta]: [f64; 3]) -> f64 {
    points
        .iter()
        .map(|&(n, x)| (x - law(lambda, alpha, beta, n)).powi(2))
        .sum()
}

/// A step of Levenberg and Marquardt.
fn step(points: &[(f64, f64)], [lambda, alpha, beta]: [f64; 3], damping: f64) -> Option<[f64; 3]> {
    let mut sums = [[0.0; 3]; 3];
    let mut right = [0.0; 3];
    for &(n, x) in points {
        let below = divisor(alpha, beta, n);
        let by_lambda = n / below;
        let by_alpha = -lambda * n * (n - 1.0) / below.powi(2);
        add(
            &mut sums,
            &mut right,
            [by_lambda, by_alpha, by_alpha * n],
            x - lambda * by_lambda,
        );
    }
    for (index, row) in sums.iter_mut().enumerate() {
        if let Some(diagonal) = row.get_mut(index) {
            *diagonal *= 1.0 + damping;
        }
    }
    solve(sums, right)
}

fn add(sums: &mut [[f64; 3]; 3], right: &mut [f64; 3], slope: [f64; 3], rest: f64) {
    for ((row, value), one) in sums.iter_mut().zip(right).zip(slope) {
        *value += one * rest;
        for (cell, other) in row.iter_mut().zip(slope) {
            *cell += one * other;
        }
    }
}

/// Three equations, by Cramer's rule with each unknown in a unit of its own.
fn solve(rows: [[f64; 3]; 3], right: [f64; 3]) -> Option<[f64; 3]> {
    let unit = [0, 1, 2].map(|i: usize| rows[i][i].abs().sqrt());
    if unit.contains(&0.0) {
        return None;
    }
    let scaled = [0, 1, 2].map(|i: usize| [0, 1, 2].map(|j: usize| rows[i][j] / (unit[i] * unit[j])));
    let determinant = |m: [[f64; 3]; 3]| {
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
            + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
    };
    let whole = determinant(scaled);
    if whole.abs() < 1e-14 {
        return None;
    }
    let found = [0, 1, 2].map(|column: usize| {
        let mut one = scaled;
        for (row, (value, unit)) in one.iter_mut().zip(right.iter().zip(unit)) {
            row[column] = value / unit;
        }
        determinant(one) / whole / unit[column]
    });
    found.iter().all(|value| value.is_finite()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(lambda: f64, alpha: f64, beta: f64, places: &[f64]) -> Vec<(f64, f64)> {
        places.iter().map(|&n| (n, law(lambda, alpha, beta, n))).collect()
    }

    #[test]
    fn the_law_is_found_again_in_its_own_points() {
        for (lambda, alpha, beta) in [(1000.0, 0.05, 0.002), (250_000.0, 0.02, 0.0), (3.5, 0.3, 0.01)] {
            let fit = fit(&points(lambda, alpha, beta, &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0])).unwrap();
            assert!((fit.lambda / lambda - 1.0).abs() < 1e-3, "{fit:?}");
            assert!(
                (fit.alpha - alpha).abs() < 1e-3 && (fit.beta - beta).abs() < 1e-4,
                "{fit:?}"
            );
            assert!(fit.r2 > 0.9999, "{fit:?}");
            assert!((fit.at(4.0) / law(lambda, alpha, beta, 4.0) - 1.0).abs() < 1e-3);
        }
    }

    #[test]
    fn noise_makes_no_negative_costs() {
        // Better than linear: no law does that.
        let mut better: Vec<(f64, f64)> = [1.0, 2.0, 3.0, 4.0, 5.0].map(|n: f64| (n, n.powf(1.1))).to_vec();
        better.push((6.0, 7.0));
        let fit = fit(&better).unwrap();
        assert!(fit.alpha >= 0.0 && fit.beta >= 0.0 && fit.r2 > 0.9, "{fit:?}");
        assert_eq!(Fit { beta: 0.0, ..fit }.peak(), None);
        let falls = Fit {
            alpha: 0.0,
            beta: 0.01,
            ..fit
        };
        assert!((falls.peak().unwrap() - 10.0).abs() < 1e-9);
    }

    #[test]
    fn too_few_points_and_points_of_nothing_are_refused() {
        assert!(fit(&points(1.0, 0.1, 0.0, &[1.0, 2.0, 3.0, 4.0])).is_err_and(|e| e.contains("4 different points")));
        // The same place five times is one.
        assert!(fit(&[(1.0, 2.0); 9]).is_err());
        assert!(fit(&[(1.0, 5.0), (2.0, 5.0), (3.0, 5.0), (4.0, 5.0), (5.0, 5.0)]).is_err_and(|e| e.contains("same")));
        let mut broken = points(1.0, 0.1, 0.0, &[1.0, 2.0, 3.0, 4.0, 5.0]);
        broken.push((6.0, 0.0));
        assert!(fit(&broken).is_err());
    }
}
