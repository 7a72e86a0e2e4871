//! From beats to a story: which facts are told, in which order, and what joins them.

use super::beats::{self, BEATS, Beat, Chapter, HEADS};
use super::interests::{self, Woven};
use super::tale::{END, NAME, Tale, WHERE, bit};
use super::voices::{Thread, Voice, voice};
use crate::story::types::{Length, Style};

/// Words a minute that `duration_seconds` assumes, a calm reading pace.
const WORDS_PER_MINUTE: usize = 150;

/// What a length asks for.
struct Measure {
    /// Words after which no further beat is taken.
    enough: usize,
    /// Words that must not be passed by a beat.
    most: usize,
    /// Different chapters.
    chapters: usize,
    /// Beats of one chapter.
    beats: usize,
    /// Interests with a fact of their own.
    interests: usize,
    /// Asides.
    asides: usize,
}

const fn measure(length: Length) -> Measure {
    match length {
        Length::Short => Measure {
            enough: 138,
            most: 172,
            chapters: 3,
            beats: 2,
            interests: 1,
            asides: 1,
        },
        Length::Medium => Measure {
            enough: 420,
            most: 480,
            chapters: 5,
            beats: 3,
            interests: 2,
            asides: 2,
        },
        Length::Long => Measure {
            enough: 850,
            most: 950,
            chapters: 6,
            beats: 6,
            interests: 3,
            asides: 4,
        },
    }
}

/// Seconds to read a text aloud.
pub(super) fn seconds(words: usize) -> u32 {
    u32::try_from((words * 60).div_ceil(WORDS_PER_MINUTE)).unwrap_or(u32::MAX)
}

/// Words as a reader counts them: what white space separates.
pub(super) fn count(text: &str) -> usize {
    text.split_whitespace().count()
}

/// A beat that made it into the story.
struct Told {
    beat: usize,
    chapter: Chapter,
    text: String,
}

/// Title and text.
pub(super) fn compose(t: &mut Tale<'_>, style: Style, length: Length, interests: &[String]) -> (String, String) {
    let voice = voice(style);
    let measure = measure(length);
    let (thread, opening) = thread(t, voice);
    let title = thread
        .titles
        .get(t.walk(0x717, thread.titles.len()))
        .copied()
        .unwrap_or("{name}");
    let title = t.pen.fill(title, &[]);

    let mut first = opening.map(|line| t.pen.fill(line, &[])).unwrap_or_default();
    let mut place = String::new();
    for part in [beats::whereabouts(t), beats::asked_point(t)].into_iter().flatten() {
        join(&mut place, &part);
    }
    // A short story has no room for a paragraph that only says where.
    if matches!(length, Length::Short) {
        join(&mut first, &place);
    } else {
        first = format!("{first}\n\n{place}");
    }
    let close = t.pick(thread.close, &[]).unwrap_or_default();
    let woven = interests::weave(t, interests, measure.interests);

    let fixed = count(&first)
        + count(&close)
        + woven
            .parts
            .iter()
            .chain(&woven.rest)
            .map(|part| count(part))
            .sum::<usize>();
    let told = choose(t, style, thread.lead, &measure, fixed);
    let body = arrange(t, voice, thread, &measure, told);
    (title, settle(&assemble(first, body, woven, close)))
}

/// The through-line and its opening: neighbouring variations never share either, and all openings of a voice come
/// round before one comes again.
fn thread<'v>(t: &Tale<'_>, voice: &'v Voice) -> (&'v Thread, Option<&'static str>) {
    let n = voice.threads.len().max(1);
    let at = t.pen.cycle(0x7423ad, n * 2);
    let thread = voice.threads.get(at % n).unwrap_or(&voice.threads[0]);
    (thread, thread.open.get(at / n).or(thread.open.first()).copied())
}

/// Picks the facts: by what the style loves, by what the thread leads into, and by the draw of this variation.
fn choose(t: &mut Tale<'_>, style: Style, lead: Chapter, measure: &Measure, fixed: usize) -> Vec<Told> {
    let liking = |t: &Tale<'_>, at: usize, beat: &Beat| {
        let loved = if beat.loved & bit(style) != 0 { 4 } else { 0 };
        let leads = if beat.chapter == lead { 5 } else { 0 };
        beat.weight * 2 + loved + leads + t.draw(0xbea7 + at as u64, 9) as u32
    };
    let mut order: Vec<(u32, usize)> = BEATS
        .iter()
        .enumerate()
        .map(|(at, beat)| (liking(t, at, beat), at))
        .collect();
    order.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));

    let mut told: Vec<Told> = Vec::with_capacity(24);
    let mut words = fixed;
    // One fact of the chapter that the opening leads into comes before everything else.
    let leads = |at: usize| {
        BEATS
            .get(at)
            .is_some_and(|beat| beat.chapter == lead && beat.weight > 1)
    };
    for (_, at) in order.iter().filter(|(_, at)| leads(*at)) {
        if attempt(t, *at, measure.most, &mut words, &mut told) {
            break;
        }
    }
    // A remote place has few facts: the second round lifts the bounds on chapters before giving up on length.
    for strict in [true, false] {
        for (_, at) in &order {
            if words >= measure.enough {
                return told;
            }
            let Some(beat) = BEATS.get(*at) else { continue };
            let same = told.iter().filter(|other| other.chapter == beat.chapter).count();
            let opened = Chapter::ALL
                .iter()
                .filter(|c| told.iter().any(|other| other.chapter == **c))
                .count();
            if strict && (same >= measure.beats || (same == 0 && opened >= measure.chapters)) {
                continue;
            }
            // What a number is like can only be told after the number.
            if beat.chapter == Chapter::People && same == 0 {
                attempt(t, HEADS, measure.most, &mut words, &mut told);
            }
            attempt(t, *at, measure.most, &mut words, &mut told);
        }
    }
    told
}

/// Tells a beat if it has something new to say and fits in; else leaves everything as it was.
fn attempt(t: &mut Tale<'_>, at: usize, most: usize, words: &mut usize, told: &mut Vec<Told>) -> bool {
    let Some(beat) = BEATS.get(at) else { return false };
    if told.iter().any(|other| other.beat == at) {
        return false;
    }
    let mark = t.mark();
    // A chapter entered costs a linking sentence; so does about every third beat after it.
    let link = if told.iter().any(|other| other.chapter == beat.chapter) {
        2
    } else {
        6
    };
    match (beat.tell)(t) {
        Some(text) if *words + count(&text) + link <= most => {
            *words += count(&text) + link;
            told.push(Told {
                beat: at,
                chapter: beat.chapter,
                text,
            });
            true
        }
        _ => {
            t.back_to(&mark);
            false
        }
    }
}

/// Puts chapters in order, beats into paragraphs, and links in front of them.
fn arrange(
    t: &mut Tale<'_>,
    voice: &'static Voice,
    thread: &'static Thread,
    measure: &Measure,
    told: Vec<Told>,
) -> Vec<String> {
    let mut chapters: Vec<(usize, Chapter)> = Chapter::ALL
        .iter()
        .map(|chapter| {
            (
                if *chapter == thread.lead {
                    0
                } else {
                    1 + t.draw(0xc4a9 + chapter.index() as u64, 1000)
                },
                *chapter,
            )
        })
        .collect();
    chapters.sort_by_key(|chapter| (chapter.0, chapter.1.index()));

    let mut told = told;
    told.sort_by_key(|part| part.beat);
    let mut paragraphs: Vec<String> = Vec::with_capacity(12);
    let mut asides = 0;
    let mut after = None;
    for (_, chapter) in chapters {
        let parts: Vec<&Told> = told.iter().filter(|part| part.chapter == chapter).collect();
        let mut rest = parts.as_slice();

        while !rest.is_empty() {
            let (now, later) = rest.split_at(paragraph(rest));
            rest = later;
            let place = Place {
                chapter,
                after,
                at: paragraphs.len(),
            };
            let mut text = link(t, voice, thread, &place).unwrap_or_default();
            after = Some(chapter);
            for part in now {
                join(&mut text, &part.text);
            }
            // An aside after about every third paragraph, never after the first.
            let turn = asides < measure.asides && !paragraphs.is_empty();
            if turn
                && t.draw(0xa51de + paragraphs.len() as u64, 3) == 0
                && let Some(aside) = t.pick(voice.asides, &[])
            {
                asides += 1;
                join(&mut text, &aside);
            }
            paragraphs.push(text);
        }
    }
    paragraphs
}

/// How many of the beats make the next paragraph: as many as stay under about ninety words, without leaving a short
/// one behind.
fn paragraph(parts: &[&Told]) -> usize {
    let mut words = 0;
    for (n, part) in parts.iter().enumerate() {
        words += count(&part.text);
        let left: usize = parts.iter().skip(n).map(|part| count(&part.text)).sum();
        if words > 90 && n > 0 && left > 28 {
            return n;
        }
    }
    parts.len()
}

/// Where in the story a paragraph stands.
struct Place {
    chapter: Chapter,
    /// The chapter of the paragraph before; none for the first.
    after: Option<Chapter>,
    /// Its number.
    at: usize,
}

/// The sentence in front of a paragraph. The first needs none: the opening leads into it.
fn link(t: &mut Tale<'_>, voice: &'static Voice, thread: &'static Thread, place: &Place) -> Option<String> {
    let after = place.after?;
    if after == place.chapter {
        return t.pick(thread.turns, &[]);
    }
    let enters: &'static [&'static str] = voice.enter.get(place.chapter.index()).copied().unwrap_or_default();
    let draw = t.draw(0x11f + place.at as u64, 6);
    let (mine, other) = match draw {
        0..=2 if after == thread.lead && !thread.away.is_empty() => (thread.away, enters),
        0 | 1 => (thread.turns, enters),
        _ => (enters, thread.turns),
    };
    t.pick(mine, &[]).or_else(|| t.pick(other, &[]))
}

/// Opening, body with the interests at about two thirds, closing.
fn assemble(first: String, body: Vec<String>, woven: Woven, close: String) -> String {
    let mut paragraphs = Vec::with_capacity(body.len() + woven.parts.len() + 3);
    paragraphs.push(first);
    let at = (body.len() * 2).div_ceil(3);
    let mut interests = woven.parts.into_iter();
    for (n, text) in body.into_iter().enumerate() {
        if n >= at {
            paragraphs.extend(interests.next());
        }
        paragraphs.push(text);
    }
    paragraphs.extend(interests);
    paragraphs.extend(woven.rest);
    paragraphs.push(close);
    paragraphs.retain(|paragraph| !paragraph.is_empty());
    paragraphs.join("\n\n")
}

fn join(text: &mut String, part: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(part);
}

/// Ends the marks of [`Tale::called`]: a place is given with its country where it comes up first, and by name alone
/// from then on.
fn settle(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut met: Vec<(&str, &str)> = Vec::with_capacity(16);
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once(NAME) {
        out.push_str(before);
        let Some((name, tail)) = tail.split_once(WHERE) else {
            break;
        };
        let Some((whereabouts, tail)) = tail.split_once(END) else {
            break;
        };
        out.push_str(name);
        if !met.contains(&(name, whereabouts)) {
            met.push((name, whereabouts));
            out.push_str(whereabouts);
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}
