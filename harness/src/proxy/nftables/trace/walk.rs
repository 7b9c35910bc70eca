// SPDX-License-Identifier: Apache-2.0
//! A packet's walk from its trace: the kernel tells which rules matched; how many were tested
//! before them follows from their places in their chains. Pure but for the ruleset it looks into.

use record::MatchedRule;

use super::super::super::iptables::Hook;
use super::event::{Event, Step, Verdict};

/// What a walk has to know of the rules.
pub(super) trait Ruleset {
    /// Handles of a chain's rules, in order.
    fn handles(&mut self, table: &str, chain: &str) -> Result<Vec<u64>, String>;
    /// A base chain's hook; `None` for a chain that is jumped to.
    fn hook(&mut self, table: &str, chain: &str) -> Result<Option<Hook>, String>;
}

/// A matched rule without its text, and where it sent the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) rule: MatchedRule,
    pub(super) handle: u64,
    /// Chain it sent the packet to.
    pub(super) to: Option<String>,
}

/// What a packet's walk was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Walk {
    pub(super) matches: Vec<Match>,
    pub(super) walked: u64,
}

/// A chain that the packet is in.
struct Frame {
    chain: String,
    handles: Vec<u64>,
    /// Rules tested.
    tested: usize,
    /// Left by a rule, so the rest of its rules is not tested.
    left: bool,
}

/// The packet in a base chain.
struct Passage {
    table: String,
    hook: Hook,
    frames: Vec<Frame>,
}

struct Walker<'a, R> {
    ruleset: &'a mut R,
    walk: Walk,
    passage: Option<Passage>,
    /// Hook and the rules tested since it was entered.
    hook: Option<(Hook, u64)>,
}

/// Walks the events of one packet. The error says what does not fit.
pub(super) fn walk<R: Ruleset>(events: &[Event], ruleset: &mut R) -> Result<Walk, String> {
    let mut walker = Walker { ruleset, walk: Walk::default(), passage: None, hook: None };
    for event in events {
        walker.take(event)?;
    }
    match walker.passage {
        None => Ok(walker.walk),
        Some(passage) => {
            let chain = passage.frames.last().map_or("", |frame| frame.chain.as_str());
            Err(format!("the trace ends in chain {chain}"))
        }
    }
}

impl<R: Ruleset> Walker<'_, R> {
    fn take(&mut self, event: &Event) -> Result<(), String> {
        let mut passage = match self.passage.take() {
            Some(passage) if passage.table == event.table => passage,
            Some(_) => return Err("a base chain was not finished".to_owned()),
            None => self.enter(event)?,
        };
        // Chains that ended without a word: some kernels tell of every end, some of none.
        while passage.frames.last().is_some_and(|frame| frame.chain != event.chain) {
            let frame = passage.frames.pop().expect("looked at just now");
            self.test_rest(frame);
        }
        let Some(frame) = passage.frames.last_mut() else {
            return Err(format!("chain {} is not where the packet was", event.chain));
        };
        match &event.step {
            Step::Rule { handle, verdict } => {
                let Some(index) = frame.handles.iter().position(|one| one == handle) else {
                    return Err(format!("chain {} has no rule {handle}", event.chain));
                };
                let Some(tested) = (index + 1).checked_sub(frame.tested).filter(|n| *n > 0) else {
                    return Err(format!("chain {} was walked backwards", event.chain));
                };
                frame.tested = index + 1;
                let of = frame.handles.len();
                self.test(tested);
                self.note(&passage, event, *handle, (index, of), verdict);
                if !self.obey(&mut passage, verdict)? {
                    return Ok(());
                }
            }
            Step::End if passage.frames.len() > 1 => {
                let frame = passage.frames.pop().expect("there are two");
                self.test_rest(frame);
            }
            Step::End => {}
            Step::Policy => {
                let frame = passage.frames.pop().expect("looked at just now");
                if !passage.frames.is_empty() {
                    return Err(format!("chain {} has no policy", event.chain));
                }
                self.test_rest(frame);
                return Ok(());
            }
        }
        self.passage = Some(passage);
        Ok(())
    }

    fn enter(&mut self, event: &Event) -> Result<Passage, String> {
        let Some(hook) = self.ruleset.hook(&event.table, &event.chain)? else {
            return Err(format!("chain {} is at no hook", event.chain));
        };
        if self.hook.is_none_or(|(before, _)| before != hook) {
            self.hook = Some((hook, 0));
        }
        let frame = self.frame(&event.table, &event.chain)?;
        Ok(Passage { table: event.table.clone(), hook, frames: vec![frame] })
    }

    fn frame(&mut self, table: &str, chain: &str) -> Result<Frame, String> {
        let handles = self.ruleset.handles(table, chain)?;
        Ok(Frame { chain: chain.to_owned(), handles, tested: 0, left: false })
    }

    /// Whether the packet is still in the base chain.
    fn obey(&mut self, passage: &mut Passage, verdict: &Verdict) -> Result<bool, String> {
        match verdict {
            Verdict::Continue => {}
            Verdict::Jump(chain) => {
                let frame = self.frame(&passage.table, chain)?;
                passage.frames.push(frame);
            }
            Verdict::Goto(chain) => {
                let frame = self.frame(&passage.table, chain)?;
                // A base chain stays below: its policy has the last word.
                match passage.frames.len() {
                    1 => passage.frames[0].left = true,
                    _ => drop(passage.frames.pop()),
                }
                passage.frames.push(frame);
            }
            Verdict::Return if passage.frames.len() > 1 => drop(passage.frames.pop()),
            Verdict::Return => passage.frames[0].left = true,
            Verdict::Final => return Ok(false),
        }
        Ok(true)
    }

    fn test_rest(&mut self, frame: Frame) {
        if !frame.left {
            self.test(frame.handles.len() - frame.tested);
        }
    }

    fn test(&mut self, rules: usize) {
        self.walk.walked += rules as u64;
        if let Some((_, tested)) = &mut self.hook {
            *tested += rules as u64;
        }
    }

    fn note(
        &mut self,
        passage: &Passage,
        event: &Event,
        handle: u64,
        (index, of): (usize, usize),
        verdict: &Verdict,
    ) {
        let number = |count: usize| u32::try_from(count).expect("a chain's rules are counted");
        let tested = self.hook.map_or(0, |(_, tested)| tested);
        let rule = MatchedRule {
            hook: passage.hook.word().to_owned(),
            table: event.table.clone(),
            chain: event.chain.clone(),
            position: number(index + 1),
            of: number(of),
            walked_before: tested - 1,
            text: String::new(),
        };
        let to = match verdict {
            Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain.clone()),
            _ => None,
        };
        self.walk.matches.push(Match { rule, handle, to });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `nat` jumps to `services` (three rules), whose third goes to `service` (two rules).
    struct Sample;

    impl Ruleset for Sample {
        fn handles(&mut self, _: &str, chain: &str) -> Result<Vec<u64>, String> {
            Ok(match chain {
                "nat" => vec![1, 2],
                "services" => vec![11, 12, 13],
                "mark" => vec![31],
                _ => vec![21, 22],
            })
        }

        fn hook(&mut self, _: &str, chain: &str) -> Result<Option<Hook>, String> {
            Ok((chain == "nat").then_some(Hook::Prerouting))
        }
    }

    fn event(chain: &str, step: Step) -> Event {
        Event { id: 1, table: "t".to_owned(), chain: chain.to_owned(), step, packet: None }
    }

    fn rule(chain: &str, handle: u64, verdict: Verdict) -> Event {
        event(chain, Step::Rule { handle, verdict })
    }

    fn jump(chain: &str) -> Verdict {
        Verdict::Jump(chain.to_owned())
    }

    fn places(walk: &Walk) -> Vec<(u32, u64)> {
        walk.matches.iter().map(|m| (m.rule.position, m.rule.walked_before)).collect()
    }

    #[test]
    fn rules_that_did_not_match_are_counted_from_the_places_of_those_that_did() {
        let events = [
            rule("nat", 1, jump("services")),
            rule("services", 13, Verdict::Goto("service".to_owned())),
            rule("service", 21, jump("mark")),
            rule("mark", 31, Verdict::Continue),
            event("mark", Step::End),
            rule("service", 22, Verdict::Final),
        ];
        let walk = walk(&events, &mut Sample).unwrap();
        assert_eq!(places(&walk), [(1, 0), (3, 3), (1, 4), (1, 5), (2, 6)]);
        assert_eq!(walk.walked, 7);
    }

    #[test]
    fn an_end_is_counted_once_whether_the_kernel_tells_of_it_or_not() {
        let told = [
            rule("nat", 1, jump("services")),
            event("services", Step::End),
            event("nat", Step::End),
            event("nat", Step::Policy),
        ];
        let untold = [told[0].clone(), told[3].clone()];
        for events in [&told[..], &untold[..]] {
            let walk = walk(events, &mut Sample).unwrap();
            assert_eq!((places(&walk), walk.walked), (vec![(1, 0)], 5));
        }
    }

    #[test]
    fn rules_after_a_return_or_a_goto_are_not_walked() {
        let returned = [
            rule("nat", 1, jump("services")),
            rule("services", 11, Verdict::Return),
            rule("nat", 2, Verdict::Return),
            event("nat", Step::Policy),
        ];
        assert_eq!(walk(&returned, &mut Sample).unwrap().walked, 3);
        let gone = [
            rule("nat", 1, Verdict::Goto("services".to_owned())),
            event("services", Step::End),
            event("nat", Step::Policy),
        ];
        assert_eq!(walk(&gone, &mut Sample).unwrap().walked, 4);
    }

    #[test]
    fn a_trace_with_a_hole_is_an_error() {
        let cut = [rule("nat", 1, jump("services"))];
        assert!(walk(&cut, &mut Sample).unwrap_err().contains("ends in chain services"));
        let strange = [rule("nat", 77, Verdict::Final)];
        assert!(walk(&strange, &mut Sample).unwrap_err().contains("no rule 77"));
        let back = [rule("nat", 2, Verdict::Continue), rule("nat", 1, Verdict::Continue)];
        assert!(walk(&back, &mut Sample).unwrap_err().contains("backwards"));
        let inside = [rule("services", 11, Verdict::Final)];
        assert!(walk(&inside, &mut Sample).unwrap_err().contains("at no hook"));
    }
}
