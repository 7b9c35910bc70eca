// SPDX-License-Identifier: Apache-2.0
//! The walk of a connection's first packet through the rules, replayed from their text, and from
//! their counters where the text does not decide. Then the counters have the last word: what is
//! not explained by the walks is an error, not a guess.

use std::collections::HashMap;

use record::MatchedRule;

use super::condition::{Condition, SetMatch, Target, Verdict};
use super::packet::{self, Hook, Packet, State, Stop};
use super::save::Save;

/// Chains within chains that the kernel allows (`NFT_JUMP_STACK_SIZE` is 16; legacy tables refuse
/// loops only, and no ruleset is that deep).
const DEPTH_MAX: usize = 64;

/// Reports of hosts to their routers that may come by during a watch, which is a few milliseconds.
const REPORTS_MAX: usize = 8;

/// Rules by table, chain and place.
type Place = (usize, usize, usize);

/// What one packet's walk was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Walk {
    /// Rules that matched it, and members of sets that they found, in order.
    pub(crate) rules: Vec<MatchedRule>,
    /// Rules tested.
    pub(crate) walked: u64,
    /// Where a rule translated its destination to, by the rule.
    pub(crate) translated_to: Option<String>,
}

/// A look into a set that said yes: set, member, members of the set.
pub(super) type Member = (String, String, u32);

/// Answers what is in which set.
pub(super) trait SetLook {
    /// The member that a packet is looked up as, if it is in the set; `None` where nobody can tell.
    fn look(&self, set: &SetMatch, packet: &Packet) -> Option<Option<Member>>;
}

/// Replays packets and counts on which rules they should have been counted.
#[derive(Debug)]
pub(super) struct Replay<'a, S> {
    /// What the rules counted during the watch.
    counted: &'a Save,
    sets: &'a S,
    expected: HashMap<Place, u64>,
    read: HashMap<Place, Condition>,
}

/// How a packet left a chain.
enum Left {
    /// At its end, or by RETURN.
    Fell,
    /// With a verdict for the whole table.
    Decided,
}

/// One packet on its way.
struct Walker {
    hook: Hook,
    table: usize,
    packet: Packet,
    walk: Walk,
    walked_in_hook: u64,
}

impl<'a, S: SetLook> Replay<'a, S> {
    pub(super) fn new(counted: &'a Save, sets: &'a S) -> Self {
        Self { counted, sets, expected: HashMap::new(), read: HashMap::new() }
    }

    /// Walks one packet. The error says what does not fit.
    pub(super) fn walk(&mut self, way: &[Stop]) -> Result<Walk, String> {
        let mut walk = Walk::default();
        let mut mark = 0;
        for stop in way {
            let mut walker = Walker {
                hook: stop.hook,
                table: 0,
                packet: Packet { mark, ..stop.packet.clone() },
                walk: std::mem::take(&mut walk),
                walked_in_hook: 0,
            };
            for name in stop.hook.tables().iter().filter(|name| **name != "nat" || stop.nat) {
                let Some(table) = self.counted.table(name) else { continue };
                let Some(chain) = self.counted.tables[table].chain(stop.hook.word()) else {
                    continue;
                };
                walker.table = table;
                // Table raw comes before connection tracking.
                walker.packet.state = match *name {
                    "raw" => State::Untracked,
                    _ => stop.packet.state,
                };
                self.chain(&mut walker, chain, 0)?;
            }
            mark = walker.packet.mark;
            walk = walker.walk;
        }
        Ok(walk)
    }

    fn chain(&mut self, walker: &mut Walker, chain: usize, depth: usize) -> Result<Left, String> {
        let counted = self.counted;
        let table = &counted.tables[walker.table];
        if depth > DEPTH_MAX {
            return Err(format!("chain {} is reached in circles", table.chains[chain].name));
        }
        for index in 0..table.chains[chain].rules.len() {
            walker.walk.walked += 1;
            walker.walked_in_hook += 1;
            let place = (walker.table, chain, index);
            if !self.matches(walker, place)? {
                continue;
            }
            *self.expected.entry(place).or_default() += 1;
            self.note(walker, place);
            match self.condition(place).target.clone() {
                Target::Continue => {}
                Target::Mark { value, mask } => {
                    walker.packet.mark = (walker.packet.mark & !mask) ^ value;
                }
                Target::Jump(name) | Target::Goto(name) => {
                    let Some(next) = table.chain(&name) else {
                        return Err(format!("there is no chain {name}"));
                    };
                    if let Left::Decided = self.chain(walker, next, depth + 1)? {
                        return Ok(Left::Decided);
                    }
                    if matches!(self.condition(place).target, Target::Goto(_)) {
                        return Ok(Left::Fell);
                    }
                }
                Target::Return => return Ok(Left::Fell),
                Target::Accept => return Ok(Left::Decided),
                Target::Translate { to } => {
                    if to.is_some() {
                        walker.walk.translated_to = to;
                    }
                    return Ok(Left::Decided);
                }
                Target::Refuse => {
                    let rule = &table.chains[chain].rules[index].text;
                    return Err(format!("an answered connection was refused by {rule}"));
                }
                Target::Strange(name) => return Err(format!("the effect of {name} is not known")),
            }
        }
        Ok(Left::Fell)
    }

    fn condition(&mut self, place: Place) -> &Condition {
        let (table, chain, rule) = place;
        let table = &self.counted.tables[table];
        self.read.entry(place).or_insert_with(|| {
            let text = &table.chains[chain].rules[rule].text;
            Condition::read(text, |name| table.chain(name).is_some())
        })
    }

    fn matches(&mut self, walker: &Walker, place: Place) -> Result<bool, String> {
        let (table, chain, rule) = place;
        let rule = &self.counted.tables[table].chains[chain].rules[rule];
        let sets = self.sets;
        let member = |set: &SetMatch, packet: &Packet| sets.look(set, packet).map(|m| m.is_some());
        let verdict = self.condition(place).met_by(&walker.packet, &member);
        match (verdict, rule.packets) {
            (Verdict::Yes, 0) => Err(format!("not counted, but on the way: {}", rule.text)),
            (Verdict::No, _) | (Verdict::Unknown, 0) => Ok(false),
            (Verdict::Yes | Verdict::Unknown, _) => Ok(true),
        }
    }

    /// Writes a matched rule down, and the members of sets that it found.
    fn note(&mut self, walker: &mut Walker, place: Place) {
        let (table, chain, index) = place;
        let table = &self.counted.tables[table];
        let chain = &table.chains[chain];
        let walked_before = walker.walked_in_hook - 1;
        let sets = self.sets;
        let condition = self.condition(place);
        let found = condition.sets.iter().filter(|set| !set.negated);
        let found: Vec<Member> =
            found.filter_map(|set| sets.look(set, &walker.packet).flatten()).collect();
        walker.walk.rules.push(MatchedRule {
            hook: walker.hook.word().to_owned(),
            table: table.name.clone(),
            chain: chain.name.clone(),
            position: number(index + 1),
            of: number(chain.rules.len()),
            walked_before,
            text: chain.rules[index].text.clone(),
        });
        walker.walk.rules.extend(found.into_iter().map(|(name, text, of)| MatchedRule {
            hook: walker.hook.word().to_owned(),
            table: name,
            chain: String::new(),
            position: 0,
            of,
            walked_before,
            text,
        }));
    }

    /// Fails unless the walks, and reports of hosts to their routers, are all that was counted.
    pub(super) fn settle(mut self) -> Result<(), String> {
        let Err(unexplained) = self.check() else { return Ok(()) };
        for way in packet::reports() {
            let before = self.expected.clone();
            for _ in 0..REPORTS_MAX {
                if self.walk(&way).is_ok() && self.check().is_ok() {
                    return Ok(());
                }
            }
            self.expected = before;
        }
        Err(unexplained)
    }

    /// Table nat sees a connection's first packet only, so its counters have to be met exactly.
    /// The other tables see all packets of all connections, so theirs may be higher.
    fn check(&self) -> Result<(), String> {
        for (t, table) in self.counted.tables.iter().enumerate() {
            for (c, chain) in table.chains.iter().enumerate() {
                for (r, rule) in chain.rules.iter().enumerate() {
                    let expected = self.expected.get(&(t, c, r)).copied().unwrap_or_default();
                    let more = rule.packets > expected && table.name != "nat";
                    if rule.packets != expected && !more {
                        return Err(format!(
                            "{} packets counted where the walk has {expected}: {}",
                            rule.packets, rule.text
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a chain has fewer rules than memory has bytes")
}

#[cfg(test)]
mod tests;
