// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask report`: a record drawn again, on any machine.

use anyhow::Result;
use record::Run;

use crate::cli::ReportArgs;
use crate::exit::Exit;

/// Runs the command.
pub(crate) fn run(args: &ReportArgs) -> Result<Exit> {
    let runs = args.runs.iter().map(|dir| Run::open(dir)).collect::<Result<Vec<_>, _>>()?;
    let out = args.out.as_ref().unwrap_or(&args.runs[0]);
    let rendered = reports::render(&runs, out)?;
    println!("{}", rendered.html.display());
    Ok(Exit::Ok)
}
