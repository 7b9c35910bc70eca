// SPDX-License-Identifier: Apache-2.0
//! A host: an unnamed network namespace with one thread living in it.
//!
//! A network namespace belongs to a thread, not to a process (`unshare(2)`). The thread here enters
//! a new one and stays; work for the host is sent to it. The namespace has no name, so when the
//! process ends, however it ends, the kernel removes it with everything inside.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, setns, unshare};

use super::NetError;

type Job = Box<dyn FnOnce(&tokio::runtime::Runtime) + Send>;

/// A network namespace and the thread that lives in it. Dropping it ends the thread; the namespace
/// goes with its last thread, process and descriptor.
#[derive(Debug)]
pub struct Netns {
    name: String,
    fd: OwnedFd,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Netns {
    /// Makes a namespace. `name` is for messages only: the kernel does not know it.
    ///
    /// # Errors
    /// The process may not (`CAP_SYS_ADMIN` in its user namespace), or the kernel's limit
    /// `user.max_net_namespaces` is reached.
    pub fn create(name: impl Into<String>) -> Result<Self, NetError> {
        let name = name.into();
        Self::start(name.clone(), move || {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| NetError::os("create network namespace", name)(errno.into()))
        })
    }

    /// Takes a handle on a namespace that exists, for example a container's `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// The process may not enter it.
    pub fn enter(name: impl Into<String>, namespace: OwnedFd) -> Result<Self, NetError> {
        let name = name.into();
        Self::start(name.clone(), move || {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)
                .map_err(|errno| NetError::os("enter network namespace", name)(errno.into()))
        })
    }

    fn start(
        name: String,
        move_in: impl FnOnce() -> Result<(), NetError> + Send + 'static,
    ) -> Result<Self, NetError> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (opened, fd) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(format!("netns {name}"))
            .spawn(move || {
                let runtime = move_in().and_then(|()| {
                    // The thread's own file: /proc/self would be the main thread's namespace.
                    let fd = File::open("/proc/thread-self/ns/net")
                        .map_err(NetError::os("open", "/proc/thread-self/ns/net"))?;
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .map_err(NetError::os("start", "runtime"))?;
                    Ok((OwnedFd::from(fd), runtime))
                });
                let (result, runtime) = match runtime {
                    Ok((fd, runtime)) => (Ok(fd), Some(runtime)),
                    Err(error) => (Err(error), None),
                };
                // The creator waits below, so the send cannot fail while it lives.
                let _ = opened.send(result);
                let Some(runtime) = runtime else { return };
                while let Ok(job) = queue.recv() {
                    job(&runtime);
                }
            })
            .map_err(NetError::os("start thread of", name.clone()))?;
        let fd = fd.recv().expect("the thread sends before it ends")?;
        Ok(Self { name, fd, jobs: Some(jobs), thread: Some(thread) })
    }

    /// Name for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` on the namespace's thread and waits for it. Sockets, child processes and
    /// `/proc/sys/net` are the namespace's there; a thread that `work` starts inherits it too.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.with_runtime(move |_| work())
    }

    /// Runs a future to its end on the namespace's thread.
    pub fn block_on<F>(&self, work: impl FnOnce() -> F + Send + 'static) -> F::Output
    where
        F: Future,
        F::Output: Send + 'static,
    {
        self.with_runtime(move |runtime| runtime.block_on(work()))
    }

    fn with_runtime<T: Send + 'static>(
        &self,
        work: impl FnOnce(&tokio::runtime::Runtime) -> T + Send + 'static,
    ) -> T {
        let (done, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |runtime| {
            // Caught so that a panic in one job is the caller's and does not end the host.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(runtime)));
            let _ = done.send(outcome);
        });
        self.jobs
            .as_ref()
            .expect("present until drop")
            .send(job)
            .expect("the thread ends only when the sender is dropped");
        match result.recv().expect("every job sends its outcome") {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.jobs.take();
        if let Some(thread) = self.thread.take() {
            // A job's panic was handed to its caller; the thread itself has nothing to say.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_panics_does_not_end_the_host() {
        let Ok(host) = Netns::create("h") else { return };
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            host.run(|| panic!("on purpose"));
        }));
        assert!(caught.is_err());
        assert_eq!(host.run(|| 7), 7);
    }
}
