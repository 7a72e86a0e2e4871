//! Length of the day and height of the sun at the solstices.

use super::Daylight;

/// Tilt of the earth's axis: the sun's declination at the June solstice, degrees.
const TILT: f64 = 23.44;

/// The sun counts as risen when its centre is so high, degrees: half its disc and the bending of light (NOAA).
const SUNRISE: f64 = -0.833;

/// Below this cosine of the latitude the point is a pole, where the hour angle has no meaning.
const POLE: f64 = 1e-9;

/// Daylight at a point, with the clock of its standard time (`offset_minutes` east of UTC).
pub(super) fn daylight(lat: f64, lng: f64, offset_minutes: i32) -> Daylight {
    Daylight {
        june_minutes: day_minutes(lat, TILT),
        december_minutes: day_minutes(lat, -TILT),
        june_noon_degrees: noon_degrees(lat, TILT),
        december_noon_degrees: noon_degrees(lat, -TILT),
        solar_noon_minutes: solar_noon(lng, offset_minutes),
    }
}

/// Minutes from sunrise to sunset: NOAA's equation, cos H = (sin h0 - sin lat sin dec) / (cos lat cos dec); the sun
/// stays up for two hour angles, 15 degrees an hour.
fn day_minutes(lat: f64, declination: f64) -> u32 {
    let (lat, declination) = (lat.to_radians(), declination.to_radians());
    let below = SUNRISE.to_radians().sin() - lat.sin() * declination.sin();
    let across = lat.cos() * declination.cos();
    if across < POLE || below.abs() >= across {
        return if below < 0.0 { 1440 } else { 0 };
    }
    minutes((below / across).acos().to_degrees() * 8.0)
}

fn noon_degrees(lat: f64, declination: f64) -> f64 {
    90.0 - (lat - declination).abs()
}

/// Mean solar noon by the clock: the sun needs four minutes for a degree of longitude. The equation of time, up to a
/// quarter of an hour either way over the year, is zero in the mean.
fn solar_noon(lng: f64, offset_minutes: i32) -> u32 {
    minutes(
        (720.0 + f64::from(offset_minutes) - 4.0 * lng)
            .round()
            .rem_euclid(1440.0),
    )
}

/// Whole minutes of a figure between 0 and 1440.
fn minutes(figure: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    let whole = figure.round().clamp(0.0, 1440.0) as u32;
    whole
}
