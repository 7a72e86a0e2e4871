//! Voices: what makes a style a style. A voice owns its threads (an opening, turns of speech that come back to its
//! image, and an ending that closes it), the way it enters each chapter, and its asides.
//!
//! Lines here state no facts about the place beyond its name and country; facts are the beats' business.

mod adventure;
mod comedy;
mod family;
mod folklore;
mod history;
mod mystery;
mod nature;
mod romance;
mod science;

use super::beats::Chapter;
use crate::story::types::Style;

/// One through-line: everything from the title to the last sentence belongs to its image.
pub(super) struct Thread {
    /// The chapter that the opening leads into.
    pub(super) lead: Chapter,
    pub(super) titles: &'static [&'static str],
    pub(super) open: &'static [&'static str],
    /// Sentences that begin a paragraph and bring the image back.
    pub(super) turns: &'static [&'static str],
    /// The same, leaving the lead chapter behind: used only right after it.
    pub(super) away: &'static [&'static str],
    pub(super) close: &'static [&'static str],
}

/// A manner of telling.
pub(super) struct Voice {
    pub(super) threads: &'static [Thread],
    /// How the voice enters a chapter, by [`Chapter::index`].
    pub(super) enter: [&'static [&'static str]; 6],
    /// Short sentences that end a paragraph.
    pub(super) asides: &'static [&'static str],
}

/// The voice of a style.
pub(super) fn voice(style: Style) -> &'static Voice {
    match style {
        Style::Adventure => &adventure::VOICE,
        Style::History => &history::VOICE,
        Style::Mystery => &mystery::VOICE,
        Style::Family => &family::VOICE,
        Style::Comedy => &comedy::VOICE,
        Style::Romance => &romance::VOICE,
        Style::Nature => &nature::VOICE,
        Style::Folklore => &folklore::VOICE,
        Style::Science => &science::VOICE,
    }
}
