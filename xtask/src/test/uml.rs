// SPDX-License-Identifier: Apache-2.0
//! Ring 3's hand: test programs of ring 2, run inside User-Mode Linux by an ordinary user.
//!
//! The guest sees this machine's files read-only and has its own /tmp; whoever runs the ring, its
//! process has no rights of root's on this machine.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use harness::kernel::NAME_BUILT_IN;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, geteuid};

use super::kube_proxy;
use super::programs::{self, Program};
use crate::cli::InUmlArgs;
use crate::exit::Exit;
use crate::root;

/// Longest that one test program may take; a guest that hangs is ended.
const DEADLINE: Duration = Duration::from_secs(600);
/// Lines that wait to be printed.
const LINES_MAX: usize = 1024;
/// Who a guest is when root runs the ring: `nobody`.
const NOBODY: u32 = 65534;

/// Builds test programs and runs each in a guest of its own, a guest to a processor.
pub(crate) fn run(args: &InUmlArgs) -> Result<Exit> {
    let kernel = std::env::var_os("NIC2POD_UML").context("NIC2POD_UML names no kernel")?;
    let kernel = fs::canonicalize(&kernel)
        .with_context(|| format!("failed to find the kernel {}", kernel.display()))?;
    let guests = std::thread::available_parallelism()?.get() / args.cpus.max(1) as usize;
    let waiting = Mutex::new(programs::build(&args.test)?.into_iter());
    let failed = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        loop {
            // Not held while a guest runs.
            let Some(program) = next(&waiting) else { return Ok(()) };
            let start = Instant::now();
            let ended = Guest::boot(&kernel, &program, args)?.follow()?;
            let seconds = start.elapsed().as_secs_f64();
            let Ended { said, status } = ended;
            // In one piece: another guest speaks, too.
            println!("-- {} in {}\n{said}", program.name, kernel.display());
            println!("-- {} in {seconds:.1} s: {status}", program.name);
            if status != "0" {
                failed.lock().unwrap_or_else(PoisonError::into_inner).push(program.name);
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..guests.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| bail!("a guest's thread panicked"))
        })
    })?;
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if failed.is_empty() {
        return Ok(Exit::Ok);
    }
    eprintln!("failed in User-Mode Linux: {}", failed.join(", "));
    Ok(Exit::Failed)
}

fn next<T>(waiting: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// How a guest ended.
struct Ended {
    /// All its lines.
    said: String,
    /// Exit status of its program.
    status: String,
}

/// A guest that runs one program. Dropped, it is gone.
struct Guest {
    child: Child,
    /// What the line begins with that tells the program's exit status.
    marker: String,
    deadline: Instant,
    _init: tempfile::TempPath,
    /// The guest's memory and the kernel's own files; removed last.
    _dir: tempfile::TempDir,
}

impl Guest {
    fn boot(kernel: &Path, program: &Program, args: &InUmlArgs) -> Result<Self> {
        // Guest memory is a file in TMPDIR: on a disk every page of it would be written there.
        let dir =
            tempfile::tempdir_in("/dev/shm").context("failed to make a folder in /dev/shm")?;
        let own = dir.path();
        let marker = format!("nic2pod-guest-{}", std::process::id());
        // Beside the test program, which the guest has to see too: it has a /dev of its own.
        let beside = program.file.parent().context("a test program is in a folder")?;
        let mut init = tempfile::Builder::new()
            .prefix("guest-init")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempfile_in(beside)
            .context("failed to write the guest's process 1")?;
        init.write_all(script(program, args, &marker).as_bytes())?;
        // A file that is open for writing is not executed (ETXTBSY).
        let init = init.into_temp_path();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if geteuid().is_root() {
            std::os::unix::fs::chown(own, Some(NOBODY), Some(NOBODY))?;
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
        }
        let child = command
            .arg(kernel)
            .arg(format!("ncpus={}", args.cpus))
            .args(["seccomp=on", "mem=2G", "root=/dev/root", "rootfstype=hostfs"])
            .args(["hostfs=/", "ro", "con=null", "con0=fd:0,fd:1", "ssl=null", "quiet"])
            // Of the kernel's own lines only those that it dies with.
            .args(["loglevel=3"])
            .arg(format!("init={}", init.display()))
            // The kernel keeps a folder of its own in HOME and dies where it cannot.
            .env("HOME", own)
            .env("TMPDIR", own)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Its own words; what it says while it dies is on the console too.
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("failed to run setpriv")?;
        Ok(Self { child, marker, deadline: Instant::now() + DEADLINE, _init: init, _dir: dir })
    }

    /// Hears the guest out.
    fn follow(mut self) -> Result<Ended> {
        let console = self.child.stdout.take().context("failed to read the guest's console")?;
        let (send, receive) = mpsc::sync_channel(LINES_MAX);
        std::thread::spawn(move || {
            for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let (mut said, mut status) = (String::new(), None);
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            match receive.recv_timeout(left) {
                Ok(line) => match line.strip_prefix(&self.marker) {
                    Some(told) => status = Some(told.trim().to_owned()),
                    None => {
                        said.push_str(&line);
                        said.push('\n');
                    }
                },
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the guest did not end within {} s:\n{said}", DEADLINE.as_secs());
                }
            }
        }
        match status {
            Some(status) => Ok(Ended { said, status }),
            None => bail!("the guest ended before its program did:\n{said}"),
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The kernel and the processes that are the guest's. Errors mean that they are gone.
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Process 1 of the guest. Its root is this machine's, without a right to change anything.
fn script(program: &Program, args: &InUmlArgs, marker: &str) -> String {
    let quote = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    let (file, folder) = (quote(&program.file), quote(&program.folder));
    let workspace = quote(&root::workspace());
    let threads = args.threads;
    let filter: Vec<_> = args.filter.iter().map(|word| quote(Path::new(word))).collect();
    let filter = filter.join(" ");
    // One below the guest's own /tmp is not there for it.
    let kube_proxy = std::env::var_os(kube_proxy::VARIABLE).filter(|path| !path.is_empty());
    let kube_proxy = kube_proxy.map_or(String::new(), |path| {
        format!("export {}={}\n", kube_proxy::VARIABLE, quote(Path::new(&path)))
    });
    format!(
        "#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp TMPDIR=/tmp CI=true
export INSTA_WORKSPACE_ROOT={workspace} INSTA_UPDATE=no
{kube_proxy}name_built_in() {{
{NAME_BUILT_IN}}}
mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t tmpfs tmp /run &&
mount -t tmpfs tmp /tmp && {{ name_built_in; ip link set lo up; }} && ulimit -n 65536 && cd {folder} &&
{file} --color=never --show-output --test-threads={threads} {filter} 2>&1
status=$?
echo
echo {marker} $status
exec poweroff -f
"
    )
}
