//! What the cluster changes on this machine's network, and takes back.

use std::process::Command;

use anyhow::{Context, ensure};

use super::HOST;

/// Where Services are.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// The pods of node N are in 10.244.(N-1).0/24.
pub(crate) const PODS: &str = "10.244.0.0/16";
/// The network namespace of the second node, and the two ends of the cable to it.
pub(crate) const SECOND: &str = "headwater-node-2";
const CABLE: (&str, &str) = ("hw-node-2", "eth0");
pub(crate) const HOST_END: &str = "10.201.0.1";
pub(crate) const SECOND_END: &str = "10.201.0.2";
/// Our table of nftables.
const TABLE: &str = "headwater_cluster";

/// Gives the machine the address of the API server, and keeps what pods send on the machine.
pub(crate) fn prepare_host() -> anyhow::Result<()> {
    restore_host();
    run("ip", &["addr", "add", &format!("{HOST}/32"), "dev", "lo"])?;
    // Services stay inside while kube-proxy is not up, and work with it.
    run("ip", &["route", "add", "local", SERVICES, "dev", "lo"])?;
    run("sysctl", &["-q", "-w", "net.ipv4.ip_forward=1"])?;
    // There is no such setting where bridges do not pass packets to iptables at all.
    let _ = run("sysctl", &["-q", "-w", "net.bridge.bridge-nf-call-iptables=1"]);
    let out: Vec<String> = outward()?.iter().map(|device| format!("\"{device}\"")).collect();
    if !out.is_empty() {
        let rules = format!(
            "table ip {TABLE} {{ chain forward {{ type filter hook forward priority -10; policy accept; \
             ip saddr {PODS} oifname {{ {} }} drop; }}; }};",
            out.join(", ")
        );
        run("nft", &[&rules])?;
    }
    Ok(())
}

/// The devices that lead off the machine.
fn outward() -> anyhow::Result<Vec<String>> {
    let routes = output("ip", &["-o", "route", "show", "default"])?;
    let device =
        |line: &str| line.split_once(" dev ").and_then(|(_, rest)| rest.split(' ').next().map(str::to_owned));
    Ok(routes.lines().filter_map(device).collect())
}

/// Takes back what [`prepare_host`] and the nodes have done. What is not there is no matter.
pub(crate) fn restore_host() {
    let quiet = |program: &str, words: &[&str]| {
        let _ = Command::new(program).args(words).output();
    };
    quiet("nft", &["delete", "table", "ip", TABLE]);
    quiet("nft", &["delete", "table", "ip", "kube-proxy"]);
    quiet("nft", &["delete", "table", "ip6", "kube-proxy"]);
    quiet("ip", &["netns", "delete", SECOND]);
    for device in [CABLE.0, "hw-cni-1", "hw-cni-2"] {
        quiet("ip", &["link", "delete", device]);
    }
    for range in [SERVICES, PODS] {
        quiet("ip", &["route", "del", "local", range, "dev", "lo"]);
    }
    quiet("ip", &["addr", "del", &format!("{HOST}/32"), "dev", "lo"]);
}

/// Has this machine answer at the addresses of all pods: for nodes that nothing runs.
pub(crate) fn answer_for_pods() -> anyhow::Result<()> {
    run("ip", &["route", "add", "local", PODS, "dev", "lo"])
}

/// Makes the network namespace of the second node, with a cable to it.
pub(crate) fn connect_second() -> anyhow::Result<()> {
    run("ip", &["netns", "add", SECOND])?;
    run("ip", &["link", "add", CABLE.0, "type", "veth", "peer", "name", CABLE.1, "netns", SECOND])?;
    run("ip", &["addr", "add", &format!("{HOST_END}/30"), "dev", CABLE.0])?;
    run("ip", &["link", "set", CABLE.0, "up"])?;
    run("ip", &["route", "add", "10.244.1.0/24", "via", SECOND_END])?;
    let within = |words: &[&str]| run("ip", &[&["-n", SECOND], words].concat());
    within(&["link", "set", "lo", "up"])?;
    within(&["addr", "add", &format!("{SECOND_END}/30"), "dev", CABLE.1])?;
    within(&["link", "set", CABLE.1, "up"])?;
    within(&["route", "add", "default", "via", HOST_END])?;
    run(
        "nsenter",
        &[&format!("--net=/var/run/netns/{SECOND}"), "sysctl", "-q", "-w", "net.ipv4.ip_forward=1"],
    )
}

fn run(program: &str, words: &[&str]) -> anyhow::Result<()> {
    output(program, words).map(drop)
}

fn output(program: &str, words: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(words).output().with_context(|| program.to_owned())?;
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
