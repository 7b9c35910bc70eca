// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask report`: a record drawn again, on any machine, or many records over time.

use anyhow::Result;
use record::Run;

use crate::cli::ReportArgs;
use crate::exit::Exit;

/// Runs the command.
pub(crate) fn run(args: &ReportArgs) -> Result<Exit> {
    if let Some(dir) = &args.history {
        let made = reports::render_history(dir, args.out.as_ref().unwrap_or(dir))?;
        if made.unreadable > 0 {
            eprintln!("{} of the folders could not be read; the page says why", made.unreadable);
        }
        println!("{}", made.html.display());
        if made.runs == 0 {
            eprintln!("error: no run in {} could be read", dir.display());
            return Ok(Exit::Usage);
        }
        return Ok(Exit::Ok);
    }
    let runs = args.runs.iter().map(|dir| Run::open(dir)).collect::<Result<Vec<_>, _>>()?;
    let out = args.out.as_ref().unwrap_or(&args.runs[0]);
    let rendered = reports::render(&runs, out)?;
    println!("{}", rendered.html.display());
    Ok(Exit::Ok)
}
