// SPDX-License-Identifier: Apache-2.0
//! A walk as a person reads it in a terminal.

use record::{Leg, QueryWalk, Walk};

use super::paragraph::Paragraph;
use crate::analysis::number::{count, one_line, percent, plural, time};
use crate::analysis::walk::{
    End, Section, Seen, clock, longest, place, queries_ns, query_steps, question, rule_place,
    sections, steps,
};
use crate::look::Look;

/// Width where there is no terminal to ask.
const WIDTH: usize = 100;
/// Columns that the text uses at least and at most, whatever the terminal has.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=200;
/// Steps named as the longest.
const LONGEST: usize = 3;

const BOLD: &str = "1";
const DIM: &str = "2";
const CHANGED: &str = "1;33";
const THERE: &str = "36";
const BACK: &str = "35";

/// The walk from its first call to its last, step by step. Every line ends with a newline.
pub fn text(walk: &Walk, look: Look) -> String {
    let width = look.width.unwrap_or(WIDTH).clamp(*WIDTHS.start(), *WIDTHS.end());
    let last_ns = walk.steps.last().map_or(0, |step| step.at_ns);
    let clock_wide = clock(last_ns).chars().count();
    let mut page = Page { look, width, clock_wide, out: String::new() };
    page.head(walk);
    // Numbers stand right-aligned under each other.
    let digits = walk.steps.len().to_string().len();
    page.queries(walk);
    for section in sections(walk) {
        page.section(&section, digits);
    }
    page.foot(walk);
    page.out
}

struct Page {
    look: Look,
    width: usize,
    /// Columns of the times since the walk began.
    clock_wide: usize,
    out: String,
}

impl Page {
    fn set(&mut self, paragraph: Paragraph) {
        paragraph.set(self.look, self.width, &mut self.out);
    }

    fn line(&mut self, text: &str) {
        self.set(Paragraph::new(0, 2).say(text, ""));
    }

    fn head(&mut self, walk: &Walk) {
        self.set(Paragraph::new(0, 2).say(&walk.case, BOLD));
        let Walk { client, destination, backend, engine, .. } = walk;
        self.line(&format!("client {client} -> {destination} -> {backend}"));
        let total = time(walk.total_ns as f64);
        self.line(&format!("{total} in {}, recorded by engine {engine}", steps(walk)));
        if let Some(rules) = walk.rules_walked {
            let rules = match rules {
                0 => "no rule".to_owned(),
                1 => "1 rule".to_owned(),
                n => format!("{} rules", count(n)),
            };
            self.line(&format!("the first packet was tested against {rules} on the entry node"));
        }
    }

    /// Names come first, as they do in time.
    fn queries(&mut self, walk: &Walk) {
        if walk.queries.is_empty() {
            return;
        }
        self.out.push('\n');
        let count = plural(walk.queries.len(), "query", "queries");
        let heading = Paragraph::new(0, 2).say(&format!("Names: {count}"), BOLD);
        self.set(heading.say(&format!("({})", time(queries_ns(walk) as f64)), DIM));
        for query in &walk.queries {
            self.query(query);
        }
    }

    /// A query's steps, without what is said of the same places where the request passes them.
    fn query(&mut self, query: &QueryWalk) {
        let heading = Paragraph::new(2, 4).say(&question(query), BOLD);
        self.set(heading.say(&format!("({})", time(query.total_ns as f64)), DIM));
        let digits = query.steps.len().to_string().len();
        let mut known = false;
        for seen in query_steps(query) {
            self.step_head(&seen, digits);
            if !known || seen.translated() {
                self.addresses(&seen, digits + 2);
                known |= seen.source.is_some();
            }
        }
    }

    fn section(&mut self, section: &Section<'_>, digits: usize) {
        self.out.push('\n');
        let heading = Paragraph::new(0, 2).say(section.heading, BOLD);
        self.set(heading.say(&format!("({})", time(section.ns() as f64)), DIM));
        for seen in &section.steps {
            self.step(seen, digits);
        }
    }

    fn step(&mut self, seen: &Seen<'_>, digits: usize) {
        let Seen { step, .. } = *seen;
        let indent = digits + 2;
        self.step_head(seen, digits);
        self.set(Paragraph::new(indent, indent).say(&step.words, ""));
        self.addresses(seen, indent);
        for object in &step.objects {
            self.set(Paragraph::new(indent + 2, indent + 4).say(object, DIM));
        }
        for rule in &step.rules {
            self.set(Paragraph::new(indent + 2, indent + 4).say(&rule_place(rule), ""));
            self.set(Paragraph::new(indent + 4, indent + 6).say(&rule.text, DIM));
        }
    }

    fn step_head(&mut self, seen: &Seen<'_>, digits: usize) {
        let Seen { number, step, .. } = *seen;
        let (arrow, colour) = match step.leg {
            Leg::Request => ("->", THERE),
            Leg::Response => ("<-", BACK),
        };
        let since = format!("+{}", time(step.since_ns as f64));
        let clock_wide = self.clock_wide;
        let clock = clock(step.at_ns);
        let clock = format!("{number:>digits$}  {clock:>clock_wide$} {since:>9}");
        let indent = digits + 2;
        let mut head = Paragraph::new(0, indent + 2)
            .keep(clock, "")
            .keep(arrow.to_owned(), colour)
            .say(&step.host, BOLD)
            .say(&place(step), BOLD)
            .say(&format!("[{}]", step.packet), colour);
        if !step.stage.is_empty() {
            head = head.say(&format!("stage {}", step.stage), DIM);
        }
        self.set(head);
    }

    fn addresses(&mut self, seen: &Seen<'_>, indent: usize) {
        let mut line = Paragraph::new(indent, indent + 2);
        // A comma, or what one address became and where the packet goes would read as one.
        let comma = if seen.source.is_some() && seen.destination.is_some() { "," } else { "" };
        for (word, end, comma) in [("from", seen.source, comma), ("to", seen.destination, "")] {
            let Some(End { before, now }) = end else { continue };
            let now = format!("{}{comma}", one_line(now));
            line = line.say(word, DIM);
            line = match before {
                None => line.say(&now, DIM),
                Some(before) => {
                    let change = format!("{} -> {now}", one_line(before));
                    line.say(&change, CHANGED)
                }
            };
        }
        self.set(line);
    }

    fn foot(&mut self, walk: &Walk) {
        self.out.push('\n');
        let long = longest(walk, None, LONGEST);
        if !long.is_empty() {
            self.set(Paragraph::new(0, 2).say("Longest steps", BOLD));
        }
        for one in long {
            let step = one.seen.step;
            let clock = format!("{:>9}", time(step.since_ns as f64));
            let text = format!(
                "{}, up to step {}, {} {}",
                percent(one.share),
                one.seen.number,
                step.host,
                place(step)
            );
            self.set(Paragraph::new(0, 11).keep(clock, "").say(&text, ""));
        }
        for (name, lines) in [("Connection tracking", &walk.conntrack), ("Notes", &walk.notes)] {
            if !lines.is_empty() {
                self.set(Paragraph::new(0, 2).say(name, BOLD));
            }
            for line in lines {
                self.set(Paragraph::new(2, 4).say(line, ""));
            }
        }
    }
}
