//! `plan`: how many pods a load needs, which resource asks for them, and what they cost.
//!
//! Each resource is asked on its own how many pods it needs; the largest answer decides. The promises (3000 requests/s
//! a pod, 4 to 20 pods, 3 GB of memory as the target, 50 dollars a pod and month) are the scaling guide's.

use serde::Serialize;

/// Pods of the guide's table "Expected Performance".
const GUIDE_ROWS: [u32; 4] = [4, 8, 16, 20];

/// Tell how many pods a load needs, what asks for them, and what they cost
///
/// Formulas, each rounded up to whole pods:
///   CPU          rps x cpu_us / 1e6 / (cores x target_utilisation)
///   rate         rps / pod_rps
///   connections  connections / pod_connections
///   memory       connections x bytes_per_connection / (memory - base_rss)
/// The pods needed are the largest of these plus the spare ones, and at least the minimum. The CPU figure per request
/// is to be measured (`roadtrip-bench cost`) on the route mix and the machine in question; the default is a guess.
/// Exit code 1 where more pods than the maximum are needed.
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:
  roadtrip-tuning plan --rps 30000 --cpu-us 9.5 --connections 200000
  roadtrip-tuning plan --table --cpu-us 9.5"
)]
pub(crate) struct Args {
    /// Requests per second at the peak, over all pods
    #[arg(long, required_unless_present = "table", conflicts_with = "table")]
    rps: Option<f64>,
    /// The guide's table of expected performance instead, with the CPU use that follows
    #[arg(long)]
    table: bool,
    #[command(flatten)]
    pod: Pod,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a pod is, does and costs.
#[derive(clap::Args, Clone, Debug, Serialize)]
struct Pod {
    /// CPU microseconds per request, all in; measure it, this default is a guess
    #[arg(long, default_value_t = 10.0)]
    cpu_us: f64,
    /// Cores a pod may use (its CPU limit)
    #[arg(long, default_value_t = 2.0)]
    cores: f64,
    /// Cores a pod requests: the autoscaler's per cents are of these
    #[arg(long, default_value_t = 1.0)]
    cores_requested: f64,
    /// Share of the cores to use at the peak, above 0 and up to 1
    #[arg(long, default_value_t = 0.7)]
    target_utilisation: f64,
    /// Memory to use per pod in MiB; the guide's target is 3 GB of the limit of 4
    #[arg(long, default_value_t = 3072.0)]
    memory_mib: f64,
    /// Memory of a pod without connections in MiB, caches included
    #[arg(long, default_value_t = 256.0)]
    base_rss_mib: f64,
    /// Keep-alive connections at the peak, over all pods
    #[arg(long, default_value_t = 0.0)]
    connections: f64,
    /// Bytes per connection: resident (measure with `roadtrip-bench idle`) plus the kernel's socket, some 4 KiB
    #[arg(long, default_value_t = 5120.0)]
    bytes_per_connection: f64,
    /// Connections a pod can hold: its file limit less what else it has open
    #[arg(long, default_value_t = 64_000.0)]
    pod_connections: f64,
    /// Requests per second promised per pod
    #[arg(long, default_value_t = 3000.0)]
    pod_rps: f64,
    /// Fewest pods
    #[arg(long, default_value_t = 4)]
    pods_min: u32,
    /// Most pods
    #[arg(long, default_value_t = 20)]
    pods_max: u32,
    /// Pods beyond the need, so that as many may be lost at the peak
    #[arg(long, default_value_t = 0)]
    spare_pods: u32,
    /// Dollars per pod and month
    #[arg(long, default_value_t = 50.0)]
    pod_cost: f64,
}

/// What asks for the number of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Bound {
    Cpu,
    Rate,
    Connections,
    Memory,
    PodsMin,
}

/// Pods that each resource needs by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Needs {
    cpu: u64,
    rate: u64,
    connections: u64,
    memory: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Plan {
    rps: f64,
    needs: Needs,
    /// The resource whose answer decides.
    bound_by: Bound,
    /// Pods needed, spare ones and the minimum included.
    pods_needed: u64,
    /// Pods that the maximum allows.
    pods: u64,
    /// `pods_needed` is within the maximum.
    fits: bool,
    /// Requests per second that `pods` less the spare ones carry within the CPU target and the promise.
    capacity_rps: f64,
    /// Capacity over load, less one: 0.25 is a quarter to spare; negative where it does not fit.
    headroom: f64,
    rps_per_pod: f64,
    /// CPU in use over the limit, per pod, at `rps` over all `pods`.
    utilisation_of_limit: f64,
    /// The same over the request: what the autoscaler sees.
    utilisation_of_request: f64,
    memory_mib_per_pod: f64,
    cost_per_month: f64,
    inputs: Pod,
}

/// One row of the guide's table, with the CPU that it takes.
#[derive(Clone, Debug, Serialize)]
struct Row {
    pods: u32,
    rps: f64,
    /// The guide's promise, in milliseconds; a promise, not a result of this program.
    p99_ms_promised: u32,
    cost_per_month: f64,
    utilisation_of_limit: f64,
    utilisation_of_request: f64,
    /// What the same pods carry at the CPU target, were there no promise per pod.
    rps_by_cpu: f64,
}

/// Runs the subcommand: true where the plan fits.
pub(crate) fn run(args: &Args) -> Result<bool, String> {
    args.pod.check()?;
    let json = |text: sonic_rs::Result<String>| text.map_err(|e| format!("cannot write JSON: {e}"));
    if args.table {
        let rows: Vec<Row> = GUIDE_ROWS.iter().map(|&pods| row(pods, &args.pod)).collect();
        let text = if args.json {
            json(sonic_rs::to_string_pretty(&rows))?
        } else {
            table_text(&rows, &args.pod)
        };
        println!("{text}");
        return Ok(rows
            .iter()
            .all(|r| r.utilisation_of_limit <= args.pod.target_utilisation));
    }
    let rps = args
        .rps
        .filter(|r| r.is_finite() && *r >= 0.0)
        .ok_or("--rps takes a number, zero or more")?;
    let plan = plan(rps, &args.pod);
    println!(
        "{}",
        if args.json {
            json(sonic_rs::to_string_pretty(&plan))?
        } else {
            plan_text(&plan)
        }
    );
    Ok(plan.fits)
}

impl Pod {
    fn check(&self) -> Result<(), String> {
        let above_zero = [
            ("--cpu-us", self.cpu_us),
            ("--cores", self.cores),
            ("--cores-requested", self.cores_requested),
            ("--target-utilisation", self.target_utilisation),
            ("--memory-mib", self.memory_mib),
            ("--pod-connections", self.pod_connections),
            ("--pod-rps", self.pod_rps),
        ];
        let zero_or_more = [
            ("--base-rss-mib", self.base_rss_mib),
            ("--connections", self.connections),
            ("--bytes-per-connection", self.bytes_per_connection),
            ("--pod-cost", self.pod_cost),
        ];
        if let Some((name, value)) = above_zero.iter().find(|(_, v)| !(v.is_finite() && *v > 0.0)) {
            return Err(format!("{name} takes a number above zero, not {value}"));
        }
        if let Some((name, value)) = zero_or_more.iter().find(|(_, v)| !(v.is_finite() && *v >= 0.0)) {
            return Err(format!("{name} takes a number, zero or more, not {value}"));
        }
        if self.target_utilisation > 1.0 {
            return Err(format!(
                "--target-utilisation is a share up to 1, not {}",
                self.target_utilisation
            ));
        }
        if self.base_rss_mib >= self.memory_mib {
            return Err("--base-rss-mib leaves nothing of --memory-mib for connections".to_owned());
        }
        if self.pods_min == 0 || self.pods_min > self.pods_max {
            return Err(format!(
                "--pods-min {} and --pods-max {} are no range",
                self.pods_min, self.pods_max
            ));
        }
        Ok(())
    }

    /// Requests per second of one pod at the CPU target.
    fn rps_by_cpu(&self) -> f64 {
        self.cores * self.target_utilisation * 1e6 / self.cpu_us
    }
}

/// Whole pods for `load` at `each`. A float's last digit above a whole number is not a pod.
fn pods_for(load: f64, each: f64) -> u64 {
    (load / each - 1e-9).ceil().max(0.0) as u64
}

fn plan(rps: f64, pod: &Pod) -> Plan {
    const MIB: f64 = 1_048_576.0;
    let connection_bytes = pod.connections * pod.bytes_per_connection;
    let needs = Needs {
        cpu: pods_for(rps, pod.rps_by_cpu()),
        rate: pods_for(rps, pod.pod_rps),
        connections: pods_for(pod.connections, pod.pod_connections),
        memory: pods_for(connection_bytes, (pod.memory_mib - pod.base_rss_mib) * MIB),
    };
    // In this order a tie goes to the promise before the resource: the resource alone would not have asked for more.
    let asked = [
        (needs.rate, Bound::Rate),
        (needs.cpu, Bound::Cpu),
        (needs.connections, Bound::Connections),
        (needs.memory, Bound::Memory),
    ];
    let (most, by) = asked.into_iter().fold(
        (0, Bound::PodsMin),
        |best, next| if next.0 > best.0 { next } else { best },
    );
    let wanted = most.saturating_add(u64::from(pod.spare_pods));
    let (pods_needed, bound_by) = match u64::from(pod.pods_min) {
        min if wanted < min => (min, Bound::PodsMin),
        _ => (wanted, by),
    };
    let pods = pods_needed.min(u64::from(pod.pods_max));
    let carrying = pods.saturating_sub(u64::from(pod.spare_pods)) as f64;
    let capacity_rps = carrying * pod.rps_by_cpu().min(pod.pod_rps);
    let rps_per_pod = rps / pods as f64;
    let cores_used = rps_per_pod * pod.cpu_us / 1e6;
    Plan {
        rps,
        needs,
        bound_by,
        pods_needed,
        pods,
        fits: pods_needed <= u64::from(pod.pods_max),
        capacity_rps,
        headroom: if rps > 0.0 { capacity_rps / rps - 1.0 } else { 0.0 },
        rps_per_pod,
        utilisation_of_limit: cores_used / pod.cores,
        utilisation_of_request: cores_used / pod.cores_requested,
        memory_mib_per_pod: pod.base_rss_mib + connection_bytes / pods as f64 / MIB,
        cost_per_month: pods as f64 * pod.pod_cost,
        inputs: pod.clone(),
    }
}

fn row(pods: u32, pod: &Pod) -> Row {
    let cores_used = pod.pod_rps * pod.cpu_us / 1e6;
    Row {
        pods,
        rps: f64::from(pods) * pod.pod_rps,
        p99_ms_promised: match pods {
            0..=8 => 200,
            9..=16 => 250,
            _ => 300,
        },
        cost_per_month: f64::from(pods) * pod.pod_cost,
        utilisation_of_limit: cores_used / pod.cores,
        utilisation_of_request: cores_used / pod.cores_requested,
        rps_by_cpu: f64::from(pods) * pod.rps_by_cpu(),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn plan_text(plan: &Plan) -> String {
    let p = &plan.inputs;
    let mark = |bound: Bound| if plan.bound_by == bound { "  <- decides" } else { "" };
    let mut lines = vec![
        format!(
            "load            {:.0} requests/s, {:.0} connections",
            plan.rps, p.connections
        ),
        "pods needed by".to_owned(),
        format!(
            "  CPU           {:>4}   {:.0} x {} us / ({} cores x {}){}",
            plan.needs.cpu,
            plan.rps,
            p.cpu_us,
            p.cores,
            percent(p.target_utilisation),
            mark(Bound::Cpu)
        ),
        format!(
            "  rate promise  {:>4}   {:.0} / {:.0}{}",
            plan.needs.rate,
            plan.rps,
            p.pod_rps,
            mark(Bound::Rate)
        ),
        format!(
            "  connections   {:>4}   {:.0} / {:.0}{}",
            plan.needs.connections,
            p.connections,
            p.pod_connections,
            mark(Bound::Connections)
        ),
        format!(
            "  memory        {:>4}   {:.0} x {:.0} B / ({:.0} - {:.0} MiB){}",
            plan.needs.memory,
            p.connections,
            p.bytes_per_connection,
            p.memory_mib,
            p.base_rss_mib,
            mark(Bound::Memory)
        ),
        format!("  the minimum   {:>4}{}", p.pods_min, mark(Bound::PodsMin)),
        format!("spare           {:>6}", p.spare_pods),
        format!("pods            {:>6}   of {} to {}", plan.pods, p.pods_min, p.pods_max),
        format!(
            "each            {:.0} requests/s, CPU {} of the limit ({} of the request: what the autoscaler sees), {:.0} MiB",
            plan.rps_per_pod,
            percent(plan.utilisation_of_limit),
            percent(plan.utilisation_of_request),
            plan.memory_mib_per_pod
        ),
        format!(
            "capacity        {:.0} requests/s, headroom {}",
            plan.capacity_rps,
            percent(plan.headroom)
        ),
        format!("cost            ${:.0} a month", plan.cost_per_month),
    ];
    if !plan.fits {
        lines.push(format!(
            "DOES NOT FIT: {} pods are needed and {} are the most; lower the cost per request or raise the limit that decides",
            plan.pods_needed, p.pods_max
        ));
    }
    lines.join("\n")
}

fn table_text(rows: &[Row], pod: &Pod) -> String {
    let mut lines = vec![
        "| Pods | RPS Capacity | P99 (promised) | Cost/Month | CPU of limit | CPU of request | RPS by CPU alone |"
            .to_owned(),
        "|------|--------------|----------------|------------|--------------|----------------|------------------|"
            .to_owned(),
    ];
    lines.extend(rows.iter().map(|r| {
        format!(
            "| {:<4} | {:<12.0} | {:<14} | {:<10} | {:<12} | {:<14} | {:<16.0} |",
            r.pods,
            r.rps,
            format!("<{}ms", r.p99_ms_promised),
            format!("${:.0}", r.cost_per_month),
            percent(r.utilisation_of_limit),
            percent(r.utilisation_of_request),
            r.rps_by_cpu
        )
    }));
    lines.push(format!(
        "at {} CPU us per request, {} of {} cores as the target; P99 is the guide's promise, not a result",
        pod.cpu_us,
        percent(pod.target_utilisation),
        pod.cores
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        Pod {
            cpu_us: 10.0,
            cores: 2.0,
            cores_requested: 1.0,
            target_utilisation: 0.7,
            memory_mib: 3072.0,
            base_rss_mib: 256.0,
            connections: 0.0,
            bytes_per_connection: 5120.0,
            pod_connections: 64_000.0,
            pod_rps: 3000.0,
            pods_min: 4,
            pods_max: 20,
            spare_pods: 0,
            pod_cost: 50.0,
        }
    }

    #[test]
    fn the_guides_rows_come_out() {
        let rows: Vec<_> = GUIDE_ROWS
            .iter()
            .map(|&p| row(p, &pod()))
            .map(|r| (r.pods, r.rps, r.cost_per_month))
            .collect();
        assert_eq!(
            rows,
            [
                (4, 12_000.0, 200.0),
                (8, 24_000.0, 400.0),
                (16, 48_000.0, 800.0),
                (20, 60_000.0, 1000.0)
            ]
        );
        let r = row(4, &pod());
        assert!((r.utilisation_of_limit - 0.015).abs() < 1e-12 && (r.utilisation_of_request - 0.03).abs() < 1e-12);
        for pods in GUIDE_ROWS {
            let plan = plan(f64::from(pods) * 3000.0, &pod());
            assert_eq!(
                plan.pods,
                u64::from(pods),
                "the plan for a row's load is the row's pods"
            );
            assert!(plan.fits && plan.headroom.abs() < 1e-9);
        }
    }

    #[test]
    fn each_resource_can_decide() {
        let by = |rps: f64, change: fn(&mut Pod)| {
            let mut p = pod();
            change(&mut p);
            let plan = plan(rps, &p);
            (plan.pods_needed, plan.bound_by)
        };
        assert_eq!(by(0.0, |_| {}), (4, Bound::PodsMin));
        assert_eq!(by(12_001.0, |_| {}), (5, Bound::Rate));
        // 1.4 cores for 1 ms each: 1400 requests/s a pod.
        assert_eq!(by(14_000.0, |p| p.cpu_us = 1000.0), (10, Bound::Cpu));
        assert_eq!(by(100.0, |p| p.connections = 640_001.0), (11, Bound::Connections));
        // 2816 MiB hold 576716 connections of 5 KiB.
        assert_eq!(
            by(100.0, |p| (p.connections, p.pod_connections) = (6e6, 1e9)),
            (11, Bound::Memory)
        );
    }

    #[test]
    fn too_much_does_not_fit_and_spare_pods_count() {
        let p = plan(60_001.0, &pod());
        assert!(!p.fits && p.pods == 20 && p.pods_needed == 21 && p.headroom < 0.0);
        let p = plan(15_000.0, &Pod { spare_pods: 1, ..pod() });
        assert_eq!((p.pods, p.capacity_rps, p.cost_per_month), (6, 15_000.0, 300.0));
    }

    #[test]
    fn senseless_inputs_are_refused() {
        let bad: [fn(&mut Pod); 8] = [
            |p| p.cpu_us = 0.0,
            |p| p.cores = f64::NAN,
            |p| p.target_utilisation = 1.1,
            |p| p.base_rss_mib = 4000.0,
            |p| p.pods_min = 21,
            |p| p.pods_min = 0,
            |p| p.connections = -1.0,
            |p| p.pod_cost = f64::INFINITY,
        ];
        for change in bad {
            let mut p = pod();
            change(&mut p);
            assert!(p.check().is_err(), "{p:?}");
        }
        assert!(pod().check().is_ok());
    }
}
