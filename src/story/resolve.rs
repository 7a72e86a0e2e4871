//! The place that a request means, and its story.

use super::gazetteer::{Found, Gazetteer, PlaceId};
use super::narrator::{self, Ask};
use super::types::{LocationQuery, StoryRequest, Telling};

/// The place of a request.
pub(super) enum Resolved {
    Place(PlaceId),
    Unknown,
}

impl Resolved {
    pub(super) fn of(gazetteer: &Gazetteer, location: &LocationQuery) -> Resolved {
        match location {
            LocationQuery::Name(name) => match gazetteer.find(name) {
                Found::Exact(id) | Found::Close { id, .. } => Resolved::Place(id),
                Found::Unknown => Resolved::Unknown,
            },
            LocationQuery::Point { lat, lng, .. } => match gazetteer.nearest(*lat, *lng) {
                Some((id, _)) => Resolved::Place(id),
                None => Resolved::Unknown,
            },
        }
    }

    pub(super) fn place_id(&self, gazetteer: &Gazetteer) -> Option<u32> {
        match self {
            Resolved::Place(id) => Some(gazetteer.place(*id).id),
            Resolved::Unknown => None,
        }
    }

    pub(super) fn tell(&self, gazetteer: &'static Gazetteer, asked: &StoryRequest) -> Telling {
        let ask = Ask::from(asked);
        match (self, &asked.location) {
            (Resolved::Place(id), LocationQuery::Name(_)) => narrator::tell(&gazetteer.facts(*id), &ask),
            (Resolved::Place(id), LocationQuery::Point { lat, lng, name }) => {
                let facts = gazetteer.facts(*id).seen_from(*lat, *lng, name.clone());
                narrator::tell(&facts, &ask)
            }
            (Resolved::Unknown, LocationQuery::Name(name)) => narrator::tell_unknown(name, &ask),
            (Resolved::Unknown, LocationQuery::Point { lat, lng, .. }) => {
                narrator::tell_unknown(&format!("{lat:.4}, {lng:.4}"), &ask)
            }
        }
    }
}
