//! The little trigonometry that the narrator does itself, from IEEE-exact operations only, so that a rounded figure
//! cannot differ between two machines' mathematics libraries.

use std::f64::consts::PI;

/// Sine of an angle in degrees, -360 to 360, to about 1e-12 (Taylor series after reduction to a right angle).
pub(super) fn sin_deg(degrees: f64) -> f64 {
    let mut d = degrees % 360.0;
    if d > 180.0 {
        d -= 360.0;
    } else if d < -180.0 {
        d += 360.0;
    }
    if d > 90.0 {
        d = 180.0 - d;
    } else if d < -90.0 {
        d = -180.0 - d;
    }
    let x = d * (PI / 180.0);
    let square = x * x;
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while n < 21.0 {
        term = -term * square / ((n + 1.0) * (n + 2.0));
        sum += term;
        n += 2.0;
    }
    sum
}

/// Cosine of an angle in degrees.
pub(super) fn cos_deg(degrees: f64) -> f64 {
    sin_deg(90.0 - degrees)
}

/// Great-circle kilometres between two points, on the sphere of `facts`. Exact to about a metre below 2000 km;
/// none beyond, where the short series for the arc would no longer do.
pub(super) fn apart_km(lat1: f64, lng1: f64, lat2: f64, lng2: f64) -> Option<f64> {
    let half = sin_deg((lat2 - lat1) / 2.0);
    let turn = sin_deg((lng2 - lng1) / 2.0);
    let chord = (half * half + cos_deg(lat1) * cos_deg(lat2) * turn * turn)
        .max(0.0)
        .sqrt();
    if chord > 0.157 {
        return None;
    }
    let square = chord * chord;
    let arc = chord * (1.0 + square / 6.0 + square * square * 3.0 / 40.0 + square * square * square * 15.0 / 336.0);
    Some(2.0 * 6371.0088 * arc)
}
