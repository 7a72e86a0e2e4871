//! Questions first, facts as clues. There is no crime: the only thing missing is what the map does not say.

use super::{Chapter, Thread, Voice};

pub(super) static VOICE: Voice = Voice {
    threads: &[
        Thread {
            lead: Chapter::Ground,
            titles: &[
                "File Number One: {name}",
                "File Closed: {name}",
                "A Folder Marked {name}",
            ],
            open: &[
                "The folder on the desk is thin. There is one word on the cover, {name}, and no photograph. Somebody wants to know everything, and all that we are given is a list of figures. Very well.",
                "Imagine a drawer that sticks, and at the back of it a folder marked {name}. No crime is reported. That is what makes it interesting: who keeps a file on a place where nothing is said to have happened?",
            ],
            turns: &[
                "Turn over the next sheet in the folder.",
                "The file goes on.",
                "Something is clipped to the back of the page.",
                "Now read the small print.",
            ],
            away: &[],
            close: &[
                "Close the folder. Every sheet in it was true, and still it does not say what it is like to stand there. The solution to {name}, as so often, is to go and look.",
                "The file goes back into its drawer. Case open, then. The one witness who could settle the matter of {name} is sitting in this car.",
            ],
        },
        Thread {
            lead: Chapter::Names,
            titles: &["The Alias of {name}", "Who Is {name}?", "One Name Too Many"],
            open: &[
                "It begins with a name, as these things do. {name}. It was on the sign, it is on the map, and nobody in the car has asked the obvious question: who else has used it?",
                "Never trust a name until you have seen its papers. This one calls itself {name}. Let us check.",
            ],
            turns: &[
                "There is more behind that name.",
                "The papers seem to be in order. Read on.",
                "Ask again.",
                "The inquiry goes on.",
            ],
            away: &[
                "A name can be borrowed. A position cannot.",
                "Put the name aside for a moment.",
            ],
            close: &[
                "The papers are genuine. {name} is what it says it is, and where it says it is. What it has seen, it does not say; you will have to find someone there who talks.",
                "So the name holds up. One question stays open, and I hand it to you at the turn-off for {name}: what would the place call itself?",
            ],
        },
        Thread {
            lead: Chapter::Near,
            titles: &[
                "The Neighbours of {name}",
                "Nobody Asked at {name}",
                "Round {name} in a Circle",
            ],
            open: &[
                "When you want to find out about somebody, you do not ask them. You ask the neighbours. The same goes for {name}.",
                "Good detectives begin at the edges. Leave {name} alone for a minute, in the middle of its map, and find out who is standing round it.",
            ],
            turns: &[
                "Another door, another answer.",
                "Keep the circle in mind.",
                "Somebody in this circle knows more.",
                "Note it down and move on.",
            ],
            away: &[],
            close: &[
                "That was everyone with a view of it. Their statements agree in every distance, and in such cases one looks for what nobody mentioned. It will be there in {name}, in plain sight.",
                "The circle is closed, with {name} at its centre. All the neighbours have been heard, and the only one left to question is the place itself.",
            ],
        },
        Thread {
            lead: Chapter::Sky,
            titles: &[
                "The Long Watch at {name}",
                "A Light over {name}",
                "What the Sky Saw at {name}",
            ],
            open: &[
                "There is one witness that has never left {name}, never slept and never spoken. You are driving under it now. We shall question the sky.",
                "Picture a watchman at {name}, with no orders except to keep his eyes open and write down the hour. What would be in his notebook after a year?",
            ],
            turns: &[
                "The watch goes on.",
                "A watchman would have noted this too.",
                "Another entry in the notebook.",
                "He would have turned the page by now.",
            ],
            away: &["So much for what could be seen by day.", "Compare that with the map."],
            close: &[
                "The watch is over, and the notebook holds nothing but the truth, which is the most baffling thing a notebook can hold. {name} lies under the same sky as you do. Watch it for a while.",
                "The sky saw everything and will not talk. But it has told you when to be at {name} with your eyes open, and a hint is more than most cases begin with.",
            ],
        },
        Thread {
            lead: Chapter::People,
            titles: &[
                "The Number at {name}",
                "Counting Suspects in {name}",
                "What the Count Says of {name}",
            ],
            open: &[
                "Every riddle comes down to a number that does not seem to fit. So here is {name}, here are its numbers, and you may tell me where your finger stops.",
                "Somebody once counted, wrote down the result and went home. The sheet says {name} at the top. What were they looking for?",
            ],
            turns: &[
                "One number leads to the next.",
                "Does that fit? Keep it in mind.",
                "Check it against the following.",
                "The sums come out, so far.",
            ],
            away: &[],
            close: &[
                "All the numbers fit. That is the trouble with numbers: they can be right about {name} from first to last and leave out the whole of it. The remainder of this sum is yours.",
                "And where did your finger stop? Mine did at the beginning, at the word {name}. It is the only thing on the sheet that nobody could count.",
            ],
        },
        Thread {
            lead: Chapter::Globe,
            titles: &[
                "Far from {name}",
                "The Other Side of {name}",
                "Someone Knows Where {name} Is",
            ],
            open: &[
                "A perfect alibi is distance. I was elsewhere, one says, far away from {name}. But how far is far? How far can one get? Let us take the alibi apart.",
                "Hide a thing in the middle of the table and nobody sees it. {name} has been in the open all this time, on a globe that anyone can turn. So turn it.",
            ],
            turns: &[
                "Turn the globe another inch.",
                "That distance will be needed later.",
                "An alibi is only as good as its map.",
                "Now look closer.",
            ],
            away: &[],
            close: &[
                "No alibi stands. Everything on the globe lies at some distance from {name}, and now you know a few of the more awkward ones. Where were you, by the way, when this story began?",
                "The globe has stopped turning. {name} is where it always was, and whatever it is hiding it is hiding in the open. You are getting closer by the minute.",
            ],
        },
    ],
    enter: [
        &[
            "Consider the scene at large.",
            "Under whose jurisdiction are we?",
            "Begin with the territory.",
        ],
        &[
            "And how many people could know?",
            "Now the count of possible witnesses.",
            "There is the question of who lives there.",
        ],
        &[
            "Who else was near?",
            "Draw the circle on the map.",
            "Next, movements in the neighbourhood.",
        ],
        &[
            "Then there is the name.",
            "About that name.",
            "Aliases are always worth a look.",
        ],
        &[
            "What about the light?",
            "Establish the hours.",
            "The sky is a witness too.",
        ],
        &[
            "Widen the search.",
            "What if the answer is far away?",
            "Now follow the trail as far as it goes.",
        ],
    ],
    asides: &[
        "Remember that.",
        "It proves nothing. Yet.",
        "Note how neatly it fits.",
        "Nobody could have made that up.",
        "We shall leave it there for the moment.",
        "Curious, if you think about it.",
    ],
};
