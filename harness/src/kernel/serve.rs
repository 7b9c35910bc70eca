// SPDX-License-Identifier: Apache-2.0
//! The guest's side of a lab: answers what the harness outside asks, over the guest's port.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

use super::line;
use super::piece::Pieces;
use super::protocol::{ALIVE_EVERY, Ask, Failed, LINE_BYTES_MAX, Say};
use crate::Cancel;
use crate::lab::netns::NetnsBeds;
use crate::lab::{Bed, Lab, LabError};
use crate::net::privilege::enter_private_namespaces;

/// Questions that may wait; the harness asks one at a time.
const QUESTIONS_WAITING: usize = 8;

/// What is still to be waited for of a bed that is down.
type Settle = Box<dyn FnOnce() -> Vec<String>>;

/// Serves until it is asked to power off, or the port closes. To be called first thing in `main`.
///
/// # Errors
/// There is no such port, or the guest's kernel has no network namespaces.
pub fn run(port: &str) -> Result<(), LabError> {
    enter_private_namespaces()?;
    let io = |error: io::Error| LabError::Unsound(format!("failed to open port {port}: {error}"));
    let path = find(port).map_err(io)?;
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io)?;
    raw(&file).map_err(io)?;
    let mouth = Mouth(Arc::new(Mutex::new(file.try_clone().map_err(io)?)));
    let cancel = Cancel::default();
    let questions = listen(file, mouth.clone(), cancel.clone());
    mouth.say(&Say::Booted(Box::new(crate::host::host("guest")))).map_err(io)?;
    mouth.keep_saying_alive();
    let mut server = Server { beds: HashMap::new(), settling: HashMap::new(), lab: None, cancel };
    while let Ok(ask) = questions.recv() {
        if matches!(ask, Ask::PowerOff) {
            break;
        }
        let answer = server.answer(ask).unwrap_or_else(|error| Say::Failed(Failed::from(error)));
        mouth.say(&answer).map_err(io)?;
    }
    Ok(())
}

/// The port's device: a path, or `virtio:NAME`.
fn find(port: &str) -> io::Result<PathBuf> {
    match port.strip_prefix("virtio:") {
        Some(name) => super::qemu::open_port(name),
        None => Ok(port.into()),
    }
}

/// Bytes as they are: no echo, no line discipline. A port that is no terminal is that already.
fn raw(file: &File) -> io::Result<()> {
    let Ok(mut settings) = tcgetattr(file) else { return Ok(()) };
    cfmakeraw(&mut settings);
    Ok(tcsetattr(file, SetArg::TCSANOW, &settings)?)
}

/// Reads questions on a thread of its own, so that a stop is heard while the guest works. The
/// channel closes with the port.
fn listen(file: File, mouth: Mouth, cancel: Cancel) -> Receiver<Ask> {
    let (send, questions) = mpsc::sync_channel(QUESTIONS_WAITING);
    std::thread::spawn(move || {
        let mut file = BufReader::new(Pieces::of(file, || mouth.say(&Say::More)));
        while let Ok(Some(line)) = line::read(&mut file, LINE_BYTES_MAX) {
            match serde_json::from_slice(&line) {
                Ok(Ask::Cancel) => cancel.request(),
                Ok(ask) => {
                    if send.send(ask).is_err() {
                        break;
                    }
                }
                // The harness is the same program: it says nothing else.
                Err(_) => break,
            }
        }
    });
    questions
}

/// The writing end of the port.
#[derive(Clone)]
struct Mouth(Arc<Mutex<File>>);

impl Mouth {
    fn say(&self, say: &Say) -> io::Result<()> {
        let mut line = serde_json::to_vec(say).expect("the protocol's types are JSON");
        line.push(b'\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line)?;
        file.flush()
    }

    fn keep_saying_alive(&self) {
        let mouth = self.clone();
        std::thread::spawn(move || {
            // Nothing ever sends: this waits.
            let (_never, silence) = mpsc::channel::<()>();
            while mouth.say(&Say::Alive).is_ok() {
                let _ = silence.recv_timeout(ALIVE_EVERY);
            }
        });
    }
}

struct Server {
    // Beds before the lab: they are made of it.
    beds: HashMap<u32, Box<dyn Bed>>,
    settling: HashMap<u32, Settle>,
    lab: Option<NetnsBeds>,
    cancel: Cancel,
}

impl Server {
    fn answer(&mut self, ask: Ask) -> Result<Say, LabError> {
        Ok(match ask {
            Ask::Lab(settings) => {
                self.beds.clear();
                let make = if settings.thorough { NetnsBeds::thorough } else { NetnsBeds::new };
                // Where this program is in the guest; its place outside may be below a folder that
                // process 1 has mounted over.
                let program = std::env::current_exe().unwrap_or(settings.program);
                self.lab = Some(make(&settings.profile, &program, settings.pcap)?);
                Say::Done
            }
            Ask::Have { modes, cnis } => {
                let lab = self.lab()?;
                Say::Has {
                    modes: modes.into_iter().map(|mode| lab.has_mode(mode)).collect(),
                    cnis: cnis.into_iter().map(|cni| lab.has_cni(cni)).collect(),
                }
            }
            Ask::Up { bed, case } => {
                let up = self.lab()?.up(&case, &self.cancel)?;
                let ready = Box::new(up.ready().clone());
                self.beds.insert(bed, up);
                Say::Ready(ready)
            }
            Ask::WarmUp { bed } => {
                let cancel = self.cancel.clone();
                let bed = self.bed(bed)?;
                bed.warm_up(&cancel)?;
                Say::Warm { notes: bed.ready().notes.clone() }
            }
            Ask::Iterate { bed } => {
                let cancel = self.cancel.clone();
                let bed = self.bed(bed)?;
                let iteration = Box::new(bed.iterate(&cancel)?);
                Say::Iterated { iteration, notes: bed.ready().notes.clone() }
            }
            Ask::Down { bed } => {
                self.bed(bed)?;
                let down = self.beds.remove(&bed).expect("just seen").down();
                self.settling.insert(bed, down.settle);
                Say::Down { ms: down.ms, add_one_ms: down.add_one_ms, errors: down.errors }
            }
            Ask::Settle { bed } => {
                let settle = self.settling.remove(&bed).ok_or_else(|| no_bed(bed))?;
                Say::Settled { errors: settle() }
            }
            Ask::Trace { case } => {
                let (walk, pcap) = self.lab()?.trace(&case, &self.cancel)?;
                Say::Traced { walk: Box::new(walk), pcap }
            }
            Ask::PowerOff | Ask::Cancel => Say::Done,
        })
    }

    fn lab(&self) -> Result<&NetnsBeds, LabError> {
        let none = || LabError::Unsound("asked for a case before a lab".to_owned());
        self.lab.as_ref().ok_or_else(none)
    }

    fn bed(&mut self, bed: u32) -> Result<&mut dyn Bed, LabError> {
        Ok(self.beds.get_mut(&bed).ok_or_else(|| no_bed(bed))?.as_mut())
    }
}

fn no_bed(bed: u32) -> LabError {
    LabError::Unsound(format!("there is no bed {bed}"))
}
