// SPDX-License-Identifier: Apache-2.0
//! A host: an unnamed network namespace with one thread living in it.
//!
//! A network namespace belongs to a thread, not to a process (`unshare(2)`). The thread here enters
//! a new one and stays; work for the host is sent to it. The namespace has no name, so when the
//! process ends, however it ends, the kernel removes it with everything inside.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Once, Weak, mpsc};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::NetError;

type Job = Box<dyn FnOnce(&tokio::runtime::Runtime) + Send>;

/// A network namespace and the thread that lives in it. Dropping it ends the thread; the namespace
/// goes with its last thread, process and descriptor.
#[derive(Debug)]
pub struct Netns {
    name: String,
    fd: Arc<OwnedFd>,
    xtables_lock: OwnedFd,
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
        Starting::new(name.into(), leave)?.finish()
    }

    /// Makes one namespace per name, all at the same time: the kernel spends about a millisecond
    /// on each.
    ///
    /// # Errors
    /// As [`Netns::create`]; those made before are gone again.
    pub fn create_all<N: Into<String>>(
        names: impl IntoIterator<Item = N>,
    ) -> Result<Vec<Self>, NetError> {
        let starting: Vec<_> = names
            .into_iter()
            .map(|name| Starting::new(name.into(), leave))
            .collect::<Result<_, _>>()?;
        starting.into_iter().map(Starting::finish).collect()
    }

    /// Takes a handle on a namespace that exists, for example a container's `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// The process may not enter it.
    pub fn enter(name: impl Into<String>, namespace: OwnedFd) -> Result<Self, NetError> {
        let enter = move |name: &str| {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)
                .map_err(|errno| NetError::os("enter network namespace", name)(errno.into()))
        };
        Starting::new(name.into(), enter)?.finish()
    }

    /// Another handle on this namespace.
    ///
    /// # Errors
    /// The process may not enter it, or has no descriptors left.
    pub fn again(&self) -> Result<Self, NetError> {
        let fd = self.fd.try_clone();
        Self::enter(&*self.name, fd.map_err(NetError::os("find network namespace", &*self.name))?)
    }

    /// A handle on the namespace that the caller is in, which takes no privilege.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn here(name: impl Into<String>) -> Result<Self, NetError> {
        Starting::new(name.into(), |_| Ok(()))?.finish()
    }

    /// Drops several, so that the kernel dismantles them together: it takes what has gone by the
    /// time it looks as one batch, and waits for several RCU grace periods per batch
    /// (`net/core/net_namespace.c`, `cleanup_net`).
    pub fn drop_all(hosts: impl IntoIterator<Item = Self>) {
        // Their last descriptors, closed below within microseconds of each other; the threads,
        // which take longer, end here.
        let last: Vec<_> = hosts.into_iter().map(|host| Arc::clone(&host.fd)).collect();
        drop(last);
    }

    /// Name for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A name for this namespace that does not keep it alive.
    pub fn reference(&self) -> NetnsRef {
        NetnsRef { name: self.name.clone(), fd: Arc::downgrade(&self.fd) }
    }

    /// Lock file for iptables on this host. Its tables are the namespace's own, so the lock is
    /// too: the default, `/run/xtables.lock`, is the machine's, and not everyone's to write. A
    /// memory file, so that nothing is left on disk.
    pub(super) fn xtables_lock(&self) -> PathBuf {
        path_of(&self.xtables_lock)
    }

    /// A path to the namespace for other processes, good while the handle lives.
    pub(crate) fn path(&self) -> PathBuf {
        path_of(&self.fd)
    }

    /// Runs `work` on the namespace's thread and waits for it. Sockets, child processes and
    /// `/proc/sys/net` are the namespace's there; a thread that `work` starts inherits it too.
    /// Not to be called from that thread itself: it would wait for its own end.
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

    /// Starts `work` on the namespace's thread, after what was started before it.
    pub fn begin<F>(&self, work: impl FnOnce() -> F + Send + 'static) -> Pending<F::Output>
    where
        F: Future,
        F::Output: Send + 'static,
    {
        self.send(move |runtime| runtime.block_on(work()))
    }

    fn with_runtime<T: Send + 'static>(
        &self,
        work: impl FnOnce(&tokio::runtime::Runtime) -> T + Send + 'static,
    ) -> T {
        self.send(work).wait()
    }

    fn send<T: Send + 'static>(
        &self,
        work: impl FnOnce(&tokio::runtime::Runtime) -> T + Send + 'static,
    ) -> Pending<T> {
        let (done, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |runtime| {
            // Caught so that a panic in one job is the caller's and does not end the host.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(runtime)));
            // Nobody may be waiting any more.
            let _ = done.send(outcome);
        });
        self.jobs
            .as_ref()
            .expect("present until drop")
            .send(job)
            .expect("the thread ends only when the sender is dropped");
        Pending(result)
    }
}

/// A descriptor of this process as others find it. It is inherited by nobody.
fn path_of(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()))
}

fn leave(name: &str) -> Result<(), NetError> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|errno| NetError::os("create network namespace", name)(errno.into()))
}

/// Work under way on a host's thread.
#[must_use = "its outcome may be an error"]
#[derive(Debug)]
pub struct Pending<T>(mpsc::Receiver<std::thread::Result<T>>);

impl<T> Pending<T> {
    /// Waits for its outcome. A panic of the work continues here.
    pub fn wait(self) -> T {
        match self.0.recv().expect("every job sends its outcome") {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// A namespace by name: for values that speak of it and must not keep it alive.
#[derive(Clone, Debug)]
pub struct NetnsRef {
    name: String,
    fd: Weak<OwnedFd>,
}

impl NetnsRef {
    /// A name that no namespace has yet; only good for showing.
    pub fn unbound(name: impl Into<String>) -> Self {
        Self { name: name.into(), fd: Weak::new() }
    }

    /// Name for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The descriptor, while the namespace's [`Netns`] lives.
    ///
    /// # Errors
    /// It lives no more.
    pub(super) fn fd(&self) -> Result<Arc<OwnedFd>, NetError> {
        self.fd.upgrade().ok_or_else(|| {
            NetError::os("find network namespace", &*self.name)(std::io::ErrorKind::NotFound.into())
        })
    }
}

/// A thread on its way into its namespace.
struct Starting {
    name: String,
    jobs: mpsc::Sender<Job>,
    thread: JoinHandle<()>,
    fd: mpsc::Receiver<Result<OwnedFd, NetError>>,
}

impl Starting {
    fn new(
        name: String,
        move_in: impl FnOnce(&str) -> Result<(), NetError> + Send + 'static,
    ) -> Result<Self, NetError> {
        keep_signals_at_home()?;
        let (jobs, queue) = mpsc::channel::<Job>();
        let (opened, fd) = mpsc::channel();
        let host = name.clone();
        let thread = std::thread::Builder::new()
            .name(format!("netns {name}"))
            .spawn(move || {
                let (result, runtime) = match move_in(&host).and_then(|()| settle()) {
                    Ok((fd, runtime)) => (Ok(fd), Some(runtime)),
                    Err(error) => (Err(error), None),
                };
                // The creator may have given up on a sibling's error; then the queue is closed.
                let _ = opened.send(result);
                let Some(runtime) = runtime else { return };
                while let Ok(job) = queue.recv() {
                    job(&runtime);
                }
            })
            .map_err(NetError::os("start thread of", name.clone()))?;
        Ok(Self { name, jobs, thread, fd })
    }

    fn finish(self) -> Result<Netns, NetError> {
        let fd = self.fd.recv().expect("the thread sends before it ends")?;
        let xtables_lock = memfd_create(c"xtables.lock", MFdFlags::MFD_CLOEXEC)
            .map_err(|errno| NetError::os("create xtables lock of", &*self.name)(errno.into()))?;
        Ok(Netns {
            name: self.name,
            fd: Arc::new(fd),
            xtables_lock,
            jobs: Some(self.jobs),
            thread: Some(self.thread),
        })
    }
}

/// What a thread needs once it is in its namespace.
fn settle() -> Result<(OwnedFd, tokio::runtime::Runtime), NetError> {
    // The thread's own file: /proc/self would be the main thread's namespace.
    let fd = File::open("/proc/thread-self/ns/net")
        .map_err(NetError::os("open", "/proc/thread-self/ns/net"))?;
    Ok((OwnedFd::from(fd), runtime()?))
}

fn runtime() -> Result<tokio::runtime::Runtime, NetError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(NetError::os("start", "runtime"))
}

/// Lets tokio make its signal sockets here. It makes one pair per process, with the first runtime,
/// and a socket keeps the namespace it was made in: that of the first host, for good.
fn keep_signals_at_home() -> Result<(), NetError> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| result = runtime().map(drop));
    result
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
