//! Answers in the coding that the client likes best: which one, made where, and what happens if it cannot be made.
//!
//! A short body is compressed by the worker. A longer one goes to one helper thread of the process, through a bounded
//! queue; where that is full, or takes too long, the bytes go as they are. So no worker spends more than about 0.6 ms
//! on one answer (`limits::compression`).
//!
//! Compressing what an attacker chooses together with a secret tells the secret by the length of the answer (CRIME,
//! BREACH). No answer here holds a secret: there are no sessions, no cookies and no CSRF tokens, a story is made of
//! the request alone and is the same for whoever asks, and the admin token is never sent. What an answer repeats of
//! its request goes back to who sent it.

use super::problem::Problem;
use super::{Call, LaterCall, Vary};
use crate::http::encode::{Effort, encode};
use crate::http::negotiate::{Coding, Codings, NotAcceptable};
use crate::http::{FieldName, Method, Status, field};
use crate::limits::compression as limits;
use crate::runtime::driver::do_not_cut_in;
use crate::runtime::time::timeout;
use crate::server::{Outbox, Outcome, Reply, ReplyBody};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::oneshot;

/// The helper thread of a process; started when first needed.
#[derive(Debug, Default)]
pub(super) struct Helper {
    queue: OnceLock<Option<SyncSender<Job>>>,
}

#[derive(Debug)]
struct Job {
    coding: Coding,
    effort: Effort,
    body: Arc<[u8]>,
    answer: oneshot::Sender<Vec<u8>>,
}

impl Helper {
    /// `body` in that coding; `None` where the queue is full, the time is over, or it failed.
    pub(super) async fn encode(&self, coding: Coding, effort: Effort, body: Arc<[u8]>) -> Option<Vec<u8>> {
        let queue = self.queue.get_or_init(Helper::start).as_ref()?;
        let (answer, coded) = oneshot::channel();
        let job = Job {
            coding,
            effort,
            body,
            answer,
        };
        queue.try_send(job).ok()?;
        timeout(Duration::from_millis(limits::WAIT_MS_MAX), coded)
            .await
            .ok()?
            .ok()
    }

    /// It ends with the process. Where the system gives no thread, long answers go as they are.
    fn start() -> Option<SyncSender<Job>> {
        let (queue, jobs) = sync_channel(limits::QUEUE_MAX);
        let thread = std::thread::Builder::new().name("compress".into());
        let run = move || {
            // Long work, for which nobody's request is to wait; where it is refused, it is as it was.
            let _ = do_not_cut_in();
            work(&jobs);
        };
        match thread.spawn(run) {
            Ok(_) => Some(queue),
            Err(error) => {
                tracing::warn!(%error, "no thread to compress on: long answers are sent as they are");
                None
            }
        }
    }
}

fn work(jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        // Nobody waits any more: the next one does.
        if job.answer.is_closed() {
            continue;
        }
        let coded = catch_unwind(AssertUnwindSafe(|| encode(job.coding, job.effort, &job.body)));
        match coded {
            Ok(Ok(coded)) => drop(job.answer.send(coded)),
            Ok(Err(error)) => tracing::error!(%error, "a body could not be compressed"),
            Err(_) => tracing::error!("a mistake in compressing a body"),
        }
    }
}

/// A body that is compressed for one answer, or as it is.
struct Made {
    coding: Option<Coding>,
    body: Vec<u8>,
}

/// The sentence of the 406 for codings.
const NO_CODING: &str = "Accept-Encoding refuses every coding that this answer can have, and the bytes as they are";

impl super::Worker {
    /// The best coding for a body of so many bytes: short ones stay as they are where they may.
    #[inline]
    pub(super) fn pick(
        &self,
        codings: &Codings,
        effort: Effort,
        bytes: usize,
    ) -> Result<Option<Coding>, NotAcceptable> {
        if codings.is_plain() {
            return Ok(None);
        }
        let preference = effort.preference();
        let best = codings.choose(if self.compression { &preference } else { &[] })?;
        if bytes < limits::BODY_BYTES_MIN && codings.accepts(None) {
            return Ok(None);
        }
        Ok(best)
    }

    /// Compresses here and now; `None` where it fails.
    pub(super) fn encode(&self, coding: Coding, effort: Effort, body: &[u8]) -> Option<Vec<u8>> {
        let coded = encode(coding, effort, body)
            .inspect_err(|error| tracing::error!(%error, "a body could not be compressed"))
            .ok()?;
        self.metrics.compressed();
        Some(coded)
    }

    /// Compresses here, or on the helper thread where the body is long.
    pub(super) async fn encode_anywhere(&self, coding: Coding, effort: Effort, body: &[u8]) -> Option<Vec<u8>> {
        if body.len() <= limits::WORKER_BYTES_MAX && effort != Effort::Fixed {
            return self.encode(coding, effort, body);
        }
        let coded = self.process.helper.encode(coding, effort, body.into()).await?;
        self.metrics.compressed();
        Some(coded)
    }
}

impl Call<'_> {
    /// What Accept-Encoding says.
    #[inline]
    pub(super) fn codings(&self) -> Codings {
        Codings::of(self.head.accept_encoding())
    }

    /// The 406 for codings.
    pub(super) fn refuse_codings(&self, outbox: Outbox<'_>) -> Outcome {
        self.problem(outbox, &Problem::new(Status::NOT_ACCEPTABLE, NO_CODING))
    }

    /// Answers with a body that is made for this answer, compressed where that is worth it.
    pub(super) fn coded(
        &self,
        outbox: Outbox<'_>,
        status: Status,
        content_type: &'static str,
        fields: &[(FieldName, &'static [u8])],
        body: &[u8],
    ) -> Outcome {
        let codings = self.codings();
        let coding = match self.worker.pick(&codings, Effort::Once, body.len()) {
            Ok(coding) => coding,
            // An error is told as it is.
            Err(NotAcceptable) if status.code() >= 400 => None,
            Err(NotAcceptable) => return self.refuse_codings(outbox),
        };
        let Some(coding) = coding else {
            return self.answer(outbox, status, content_type, Vary::Coding, fields, body);
        };
        if body.len() > limits::WORKER_BYTES_MAX || self.method == Method::Head {
            let (fields, body) = (owned(fields), body.to_vec());
            return self
                .later(|mut call| async move { call.end_coded(status, content_type, fields, &codings, body).await });
        }
        let Some(coded) = self.worker.encode(coding, Effort::Once, body) else {
            return self.answer(outbox, status, content_type, Vary::Coding, fields, body);
        };
        let mut all = Vec::with_capacity(fields.len() + 1);
        all.extend_from_slice(fields);
        all.push((field::CONTENT_ENCODING, coding.as_str().as_bytes()));
        self.answer(outbox, status, content_type, Vary::Coding, &all, &coded)
    }
}

fn owned(fields: &[(FieldName, &'static [u8])]) -> Vec<(FieldName, Vec<u8>)> {
    fields.iter().map(|(name, value)| (*name, value.to_vec())).collect()
}

impl LaterCall {
    /// Answers with a body that is made for this answer, compressed where that is worth it.
    pub(super) async fn end_coded(
        &mut self,
        status: Status,
        content_type: &'static str,
        mut fields: Vec<(FieldName, Vec<u8>)>,
        codings: &Codings,
        body: Vec<u8>,
    ) -> Reply {
        let Ok(wished) = self.worker.pick(codings, Effort::Once, body.len()) else {
            return self.problem(&Problem::new(Status::NOT_ACCEPTABLE, NO_CODING));
        };
        if let (Some(coding), Method::Head) = (wished, self.method) {
            // What is not sent is not compressed either.
            fields.push((field::CONTENT_ENCODING, coding.as_str().into()));
            return self.end(status, content_type, Vary::Coding, fields, ReplyBody::Omitted);
        }
        let made = match wished {
            Some(coding) => match self.worker.encode_anywhere(coding, Effort::Once, &body).await {
                Some(body) => Made { coding: wished, body },
                None if codings.accepts(None) => Made { coding: None, body },
                None => return self.too_busy(),
            },
            None => Made { coding: None, body },
        };
        if let Some(coding) = made.coding {
            fields.push((field::CONTENT_ENCODING, coding.as_str().into()));
        }
        let body = ReplyBody::Bytes(made.body);
        self.end(status, content_type, Vary::Coding, fields, body)
    }

    /// The client takes compressed bytes only, and there are none to be had now.
    pub(super) fn too_busy(&mut self) -> Reply {
        self.problem(&Problem {
            retry_after_s: Some(1),
            ..Problem::new(
                Status::SERVICE_UNAVAILABLE,
                "too much is being compressed at once, and Accept-Encoding refuses the bytes as they are",
            )
        })
    }
}
