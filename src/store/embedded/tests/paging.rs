//! Pages: every story once, newest first, whatever the page sizes and whoever writes meanwhile.

use super::*;
use proptest::prelude::*;

const PLACES: [&str; 3] = ["rome", "rom", "san francisco"];

/// Lists everything, with inserts between the pages, and gives the ids in the order seen.
fn walk(client: &Client, filter: &Filter, limits: &[usize], mut between: impl FnMut()) -> Vec<Uuid> {
    let mut seen = Vec::new();
    let mut cursor = None;
    for limit in limits.iter().cycle() {
        let page = block_on(client.list(filter.clone(), cursor, *limit)).unwrap();
        assert!(page.items.len() <= *limit);
        seen.extend(page.items.iter().map(|kept| kept.id));
        between();
        match page.next {
            // As text, as a client would hand it back.
            Some(next) => cursor = Some(next.to_string().parse().unwrap()),
            None => break,
        }
        assert!(!page.items.is_empty(), "a page that leads on has stories");
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn every_story_once_newest_first(
        stories in proptest::collection::btree_map(
            (1000..1020u64, 0..50u64), (0..3usize, 0..3usize), 0..40),
        late in proptest::collection::vec((900..1040u64, 0..3usize, 0..3usize), 0..20),
        limits in proptest::collection::vec(1..7usize, 1..5),
        place in proptest::option::of(0..3usize),
        style in proptest::option::of(0..3usize),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let client = store.client();
        let passes = |p: usize, s: usize| place.is_none_or(|want| want == p) && style.is_none_or(|want| want == s);
        let mut expected = Vec::new();
        for ((ms, random), (p, s)) in &stories {
            let told = record(*ms, *random, PLACES[*p], Style::ALL[*s]);
            if passes(*p, *s) {
                expected.push(told.id);
            }
            block_on(client.put(told)).unwrap();
        }
        expected.reverse();
        let filter = Filter {
            location: place.map(|place| PLACES[place].to_owned()),
            style: style.map(|style| Style::ALL[style]),
        };
        prop_assert_eq!(&walk(&client, &filter, &limits, || ()), &expected);

        // The same, while others write older, newer and equally old stories.
        let mut late = late.into_iter().enumerate();
        let seen = walk(&client, &filter, &limits, || {
            if let Some((number, (ms, p, s))) = late.next() {
                let told = record(ms, 1000 + number as u64, PLACES[p], Style::ALL[s]);
                block_on(client.put(told)).unwrap();
            }
        });
        prop_assert!(seen.windows(2).all(|pair| pair[0] > pair[1]), "newest first, none twice: {seen:?}");
        prop_assert!(expected.iter().all(|id| seen.contains(id)), "none missed");
        close(store);
    }
}

#[test]
fn a_page_of_long_stories_ends_early() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let client = store.client();
    for number in 0..40 {
        let json = vec![b'x'; limits::STORY_BYTES_MAX];
        block_on(client.put(Record {
            json,
            ..record(5000, number, "rome", Style::History)
        }))
        .unwrap();
    }
    let page = block_on(client.list(Filter::default(), None, 1000)).unwrap();
    assert_eq!(page.items.len(), limits::PAGE_BYTES_MAX / limits::STORY_BYTES_MAX);
    assert_eq!(walk(&client, &Filter::default(), &[1000], || ()).len(), 40);
    assert_eq!(
        block_on(client.list(Filter::default(), None, 0)).unwrap().items.len(),
        1,
        "a page has a story"
    );
    close(store);
}
