//! Places by cells of one degree: what lies near a point, nearest cells first.

use super::geo::{self, KM_PER_DEGREE};
use super::reader::{Table, u24_at};

const ROWS: i32 = 180;
const COLUMNS: i32 = 360;

/// The cell table (starts) and the member table (place indices, most populous first within a cell).
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub(super) cells: Table,
    pub(super) members: Table,
}

impl Grid {
    /// Visits the places around a point, roughly outward. `visit` is given a place index and returns how far, in
    /// kilometres, places are still of interest; the walk ends when every nearer cell has been seen. `reach_km` is
    /// the first such distance.
    pub(super) fn around(self, lat: f64, lng: f64, reach_km: f64, mut visit: impl FnMut(u32) -> f64) {
        let row = cell(lat + 90.0, ROWS);
        let column = cell(lng + 180.0, COLUMNS);
        let mut reach = reach_km;
        for step in 0..ROWS {
            let mut within = false;
            for row in if step == 0 {
                [Some(row), None]
            } else {
                [Some(row - step), Some(row + step)]
            } {
                let Some(row) = row.filter(|row| (0..ROWS).contains(row)) else {
                    continue;
                };
                let south = f64::from(row) - 90.0;
                let degrees = (south - lat).max(lat - south - 1.0).max(0.0);
                if degrees * KM_PER_DEGREE <= reach {
                    within = true;
                    self.row(row, column, lat, lng, &mut reach, &mut visit);
                }
            }
            if !within && step > 0 {
                break;
            }
        }
    }

    /// One row of cells, from the column of the point outward on both sides.
    fn row(self, row: i32, column: i32, lat: f64, lng: f64, reach: &mut f64, visit: &mut impl FnMut(u32) -> f64) {
        self.cell(row, column, reach, visit);
        let west_edge = f64::from(column) - 180.0;
        for (sign, first) in [(1, west_edge + 1.0 - lng), (-1, lng - west_edge)] {
            for step in 1..=COLUMNS / 2 {
                let apart = first + f64::from(step - 1);
                if geo::meridian_km(lat, apart) > *reach {
                    break;
                }
                self.cell(row, (column + sign * step).rem_euclid(COLUMNS), reach, visit);
            }
        }
    }

    fn cell(self, row: i32, column: i32, reach: &mut f64, visit: &mut impl FnMut(u32) -> f64) {
        let Ok(cell) = usize::try_from(row * COLUMNS + column) else {
            return;
        };
        for member in u24_at(self.cells, cell * 3)..u24_at(self.cells, cell * 3 + 3) {
            *reach = visit(u24_at(self.members, member as usize * 3));
        }
    }
}

/// The whole degree that a coordinate from 0 to `count` lies in.
fn cell(degrees: f64, count: i32) -> i32 {
    // In range after the clamp; 90 north and 180 east belong to the last cell.
    #[expect(clippy::cast_possible_truncation, reason = "clamped")]
    let index = degrees.floor().clamp(0.0, f64::from(count - 1)) as i32;
    index
}
