// SPDX-License-Identifier: Apache-2.0
//! The profile a command is asked to use, and `cargo xtask profiles`: those that there are.

use std::path::{Path, PathBuf};

use anyhow::Result;
use harness::plan::{HOST_KERNEL, PROFILES, Plan, Profile, ProfileError};

use crate::cli::ProfilesCommand;
use crate::exit::Exit;

/// Reads a profile by its name or by its path. A name is one that this program was built with, or a file
/// in profiles/; anything with a slash or an ending is a path.
///
/// # Errors
/// The profile cannot be read.
pub(crate) fn read(name: &str) -> Result<Profile, ProfileError> {
    if name.contains('/') || name.ends_with(".toml") {
        return Profile::read(Path::new(name));
    }
    match Profile::named(name)? {
        Some(profile) => Ok(profile),
        None => Profile::read(&file(name)),
    }
}

fn file(name: &str) -> PathBuf {
    crate::root::workspace().join("profiles").join(format!("{name}.toml"))
}

/// Runs the command.
pub(crate) fn run(command: &ProfilesCommand) -> Result<Exit> {
    match command {
        ProfilesCommand::Ls => {
            for (name, _) in PROFILES {
                let profile = read(name)?;
                println!("{name:14} {}", profile.question);
                println!("{:14} {}", "", size(&profile)?);
            }
        }
        ProfilesCommand::Show { profile: name } => {
            let mut profile = read(name)?;
            profile.read_conflists()?;
            println!("# {}: {}", profile.name, profile.question);
            for line in wrapped(&profile.about) {
                println!("# {line}");
            }
            println!("# {}", size(&profile)?);
            println!("{}", profile.resolved());
        }
    }
    Ok(Exit::Ok)
}

/// How many cases a profile has and how long they are under load, from its plan.
fn size(profile: &Profile) -> Result<String> {
    let cases = Plan::new(profile, &[HOST_KERNEL])?.cases();
    let seconds = (profile.run.case_load_ms() * cases as u64).div_ceil(1000);
    let load = match seconds {
        0..=119 => format!("{seconds} s"),
        _ => format!("{} min", seconds.div_ceil(60)),
    };
    let cases = if cases == 1 { "1 case".to_owned() } else { format!("{cases} cases") };
    Ok(format!("{cases}, {load} of load at most; setting labs up comes on top"))
}

/// Width of a comment's text.
const COLUMNS: usize = 98;

/// A text in lines of at most [`COLUMNS`], broken at spaces.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= COLUMNS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
