//! The geometry of a sphere of 6371.0088 km (IUGG mean radius). Degrees in, kilometres and degrees out.

/// Mean radius of the earth, kilometres.
pub(crate) const RADIUS_KM: f64 = 6371.0088;

/// Kilometres in one degree of a great circle.
pub(crate) const KM_PER_DEGREE: f64 = RADIUS_KM * std::f64::consts::PI / 180.0;

/// Great-circle distance in kilometres (haversine, which keeps its precision for near points).
pub(crate) fn distance_km(from: (f64, f64), to: (f64, f64)) -> f64 {
    let (p, q) = (from.0.to_radians(), to.0.to_radians());
    let half_lat = ((q - p) / 2.0).sin();
    let half_lng = ((to.1 - from.1).to_radians() / 2.0).sin();
    let h = half_lat * half_lat + p.cos() * q.cos() * half_lng * half_lng;
    2.0 * RADIUS_KM * h.sqrt().min(1.0).asin()
}

/// Whether two points are surely farther apart than `km`: their latitudes alone say so. Four operations, where
/// [`distance_km`] takes four functions of angles; false says nothing.
pub(crate) fn is_beyond(from: (f64, f64), to: (f64, f64), km: f64) -> bool {
    // What the haversine may lose by rounding is micrometres.
    (to.0 - from.0).abs() * KM_PER_DEGREE > km + 0.001
}

/// Initial bearing in degrees clockwise from north, 0 to 360.
pub(crate) fn bearing_degrees(from: (f64, f64), to: (f64, f64)) -> f64 {
    let (p, q) = (from.0.to_radians(), to.0.to_radians());
    let east = (to.1 - from.1).to_radians();
    let y = east.sin() * q.cos();
    let x = p.cos() * q.sin() - p.sin() * q.cos() * east.cos();
    y.atan2(x).to_degrees().rem_euclid(360.0)
}

/// The least distance from a point at a latitude to any point `apart` degrees of longitude away or farther.
pub(crate) fn meridian_km(lat: f64, apart: f64) -> f64 {
    if apart <= 0.0 {
        0.0
    } else if apart >= 90.0 {
        // The way there leads past the nearer pole.
        (90.0 - lat.abs()) * KM_PER_DEGREE
    } else {
        (lat.to_radians().cos() * apart.to_radians().sin()).asin() * RADIUS_KM
    }
}

/// The point on the other side of the globe.
pub(crate) fn antipode(point: (f64, f64)) -> (f64, f64) {
    (
        -point.0,
        if point.1 > 0.0 {
            point.1 - 180.0
        } else {
            point.1 + 180.0
        },
    )
}

/// A latitude from -90 to 90 and a longitude from -180 to 180.
pub(crate) fn on_the_globe(lat: f64, lng: f64) -> bool {
    (-90.0..=90.0).contains(&lat) && (-180.0..=180.0).contains(&lng)
}
