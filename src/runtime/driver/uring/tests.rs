//! A ring that takes nothing; accepts that do not wait.

use super::*;

/// Its peers would wait for ever: a worker that breaks down leaves a process that goes on.
#[test]
fn a_ring_that_takes_nothing_any_more_leaves_no_descriptor_open_and_closes_none_twice() {
    let Ok(mut driver) = UringDriver::new() else {
        println!("SKIPPED: no io_uring here");
        return;
    };
    let pipe = || {
        let (hear, say) = io::pipe().unwrap();
        (OwnedFd::from(hear).into_raw_fd(), say)
    };
    let ((first, first_say), (second, second_say), (third, third_say)) = (pipe(), pipe(), pipe());
    let is_heard = |mut say: &io::PipeWriter| io::Write::write(&mut say, b"x").is_ok();
    driver.close(first);
    driver.flush().unwrap();
    assert!(!is_heard(&first_say));
    // Somebody else has the number now, and keeps it.
    let (other, other_say) = io::pipe().unwrap();
    let other = rustix::io::fcntl_dupfd_cloexec(&other, first).unwrap();
    driver.refusing = true;
    driver.close(second);
    driver.give_up(vec![third]);
    assert!(is_heard(&second_say) && is_heard(&third_say));
    drop(driver);
    assert!(!is_heard(&second_say) && !is_heard(&third_say));
    assert!(is_heard(&other_say));
    drop(other);
}

/// A kernel that takes nothing must not hold the worker for ever; one that takes things again gets all of them.
#[test]
fn a_kernel_that_takes_nothing_ends_the_turn_and_loses_nothing() {
    let Ok(mut driver) = UringDriver::new() else {
        println!("SKIPPED: no io_uring here");
        return;
    };
    let count = limits::runtime::SUBMISSION_ENTRIES as usize * 3;
    let id = |index: usize| OpId {
        index: index as u32,
        generation: 1,
    };
    let mut events = Vec::new();
    driver.refusing = true;
    for index in 0..count {
        driver.push(opcode::Nop::new().build().user_data(id(index).to_bits()));
    }
    for _ in 0..3 {
        driver.turn(Park::Forever, &mut events).unwrap();
    }
    assert!(events.is_empty() && driver.refusals == 3);
    driver.refusing = false;
    while events.len() < count {
        driver.turn(Park::Forever, &mut events).unwrap();
    }
    assert_eq!(driver.refusals, 0);
    let order: Vec<OpId> = events.iter().map(|event| event.op).collect();
    assert_eq!(order, (0..count).map(id).collect::<Vec<_>>());
    // For good: an error, in bounded time.
    driver.refusing = true;
    driver.refusals = limits::runtime::REFUSALS_MAX - 3;
    let ended = (0..3).find_map(|_| driver.turn(Park::Forever, &mut events).err());
    assert!(ended.is_some());
    driver.refusing = false;
}
