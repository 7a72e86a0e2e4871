//! The accounts of rate limits that pods have in common: `r:` and a client is when that client would be back at its full
//! burst, microseconds of Redis' clock. See [`crate::resilience::rate`], which charges them.

use super::Redis;
use super::fault::Fault;
use super::link::{Batch, Purpose};
use super::resp::Reply;
use crate::limits::redis as limits;
use crate::resilience::rate::limits::REMEMBER_MS;
use crate::resilience::rate::{Charge, Settled};
use std::time::Duration;

/// Charges each account, by Redis' own clock: pods need not agree on the time. Where no other pod has charged it since this
/// one looked, this one's word is exact; else all its requests are charged as of the last of them. ARGV: how far an
/// account may be ahead, how long it is remembered beyond that (milliseconds); then for each key what its requests take,
/// how old the last is, how far the pod's own account is ahead, and the account when the pod last looked.
const SETTLE: &[u8] = b"local t=redis.call('TIME') local now=t[1]*1000000+t[2] local out={} \
for i,key in ipairs(KEYS) do local a=4*i-1 \
local due=tonumber(redis.call('GET',key) or '0') or 0 local alone=0 \
if due==tonumber(ARGV[a+3]) then alone=1 due=math.max(due,now+tonumber(ARGV[a+2])) \
else due=math.max(due,now-tonumber(ARGV[a+1]))+tonumber(ARGV[a]) end \
due=math.min(due,now+tonumber(ARGV[1])) local ahead=math.max(0,due-now) \
redis.call('SET',key,string.format('%.0f',due),'PX',string.format('%.0f',math.ceil(ahead/1000)+tonumber(ARGV[2]))) \
out[3*i-2]=ahead out[3*i-1]=due out[3*i]=alone end return out";

impl Redis {
    /// Charges these clients, no more of them than one command takes, and gives for each what all pods together come to.
    /// No account gets further ahead than `most_us`.
    ///
    /// # Errors
    /// None of them may count as charged. It is not tried again: a second charge would not be known from the first.
    pub async fn settle_charges(&self, charges: &[Charge], most_us: u64) -> Result<Vec<Settled>, Fault> {
        let keys: Vec<Vec<u8>> = charges
            .iter()
            .map(|charge| self.key(b'r', &charge.client.to_bytes()))
            .collect();
        let numbers = charges
            .iter()
            .flat_map(|charge| [charge.requests_us, charge.age_us, charge.backlog_us, charge.seen_us]);
        let numbers: Vec<String> = [most_us, REMEMBER_MS]
            .into_iter()
            .chain(numbers)
            .map(|number| number.to_string())
            .collect();
        let count = keys.len().to_string();
        let mut words: Vec<&[u8]> = vec![b"EVAL", SETTLE, count.as_bytes()];
        words.extend(keys.iter().map(Vec::as_slice));
        words.extend(numbers.iter().map(String::as_bytes));
        let batch = Batch::default().add(&words);
        let budget = Duration::from_millis(limits::WRITE_MS);
        let replies = self.link.call(Purpose::Charge, budget, &batch).await?;
        match replies.into_iter().next() {
            Some(Reply::Many(scalars)) => read(&scalars, charges.len()).ok_or(Fault::Garbage),
            Some(Reply::Error(code)) => Err(Fault::of_code(&code)),
            _ => Err(Fault::Garbage),
        }
    }
}

fn read(scalars: &[Reply], count: usize) -> Option<Vec<Settled>> {
    let number = |reply: &Reply| match reply {
        Reply::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    let settled: Option<Vec<Settled>> = scalars
        .chunks_exact(3)
        .map(|part| match part {
            [ahead, due, alone] => Some(Settled {
                backlog_us: number(ahead)?,
                due_us: number(due)?,
                alone: number(alone)? == 1,
            }),
            _ => None,
        })
        .collect();
    settled.filter(|settled| settled.len() == count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_answer_is_taken() {
        let ints = |numbers: &[i64]| numbers.iter().map(|number| Reply::Int(*number)).collect::<Vec<_>>();
        let one = Settled {
            backlog_us: 5,
            due_us: 7,
            alone: true,
        };
        assert_eq!(read(&ints(&[5, 7, 1]), 1), Some(vec![one]));
        for (numbers, count) in [(&[5, 7, 1][..], 2), (&[5, 7], 1), (&[5, -7, 1], 1), (&[], 1)] {
            assert_eq!(read(&ints(numbers), count), None);
        }
    }
}
