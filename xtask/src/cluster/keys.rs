//! Keys, certificates and tokens: an authority of the cluster's own, and a token for each of its parts.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::HOST;

/// Users, the groups that let them in, and in whose name they come.
const USERS: [(&str, &str, &str); 7] = [
    ("admin", "admin", "system:masters"),
    ("controller-manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("node-1", "system:node:node-1", "system:nodes"),
    ("node-2", "system:node:node-2", "system:nodes"),
    ("proxy", "system:kube-proxy", ""),
    ("dns", "system:coredns", ""),
];

/// The kubeconfig of one of the users.
pub(crate) fn kubeconfig(folder: &Path, user: &str) -> PathBuf {
    folder.join(format!("{user}.kubeconfig"))
}

/// Makes all of them anew.
pub(crate) fn make(folder: &Path) -> anyhow::Result<()> {
    let keys = folder.join("keys");
    std::fs::create_dir_all(&keys)?;
    let openssl = |words: &[&str]| -> anyhow::Result<()> {
        let output = std::process::Command::new("openssl")
            .args(words)
            .current_dir(&keys)
            .output()
            .context("openssl")?;
        ensure!(
            output.status.success(),
            "openssl {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    };
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let with = |words: &[&str]| -> Vec<String> {
        words[..1].iter().chain(ec.iter()).chain(words[1..].iter()).map(|word| (*word).to_owned()).collect()
    };
    let run = |words: Vec<String>| openssl(&words.iter().map(String::as_str).collect::<Vec<_>>());
    run(with(&[
        "req",
        "-x509",
        "-days",
        "3650",
        "-subj",
        "/CN=headwater-cluster",
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
    ]))?;
    let names = format!(
        "subjectAltName=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,\
         DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:10.96.0.1,IP:{HOST}"
    );
    for (name, subject, more) in [
        ("apiserver", "/CN=kube-apiserver", names.as_str()),
        ("kubelet-client", "/CN=kube-apiserver-kubelet-client", "extendedKeyUsage=clientAuth"),
    ] {
        let (key, request, certificate) =
            (format!("{name}.key"), format!("{name}.csr"), format!("{name}.crt"));
        run(with(&["req", "-subj", subject, "-addext", more, "-keyout", &key, "-out", &request]))?;
        openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "3650",
            "-copy_extensions",
            "copyall",
            "-out",
            &certificate,
        ])?;
    }
    openssl(&["genrsa", "-out", "service-accounts.key", "2048"])?;
    openssl(&["rsa", "-in", "service-accounts.key", "-pubout", "-out", "service-accounts.pub"])?;
    let mut tokens = Vec::new();
    for (name, user, groups) in USERS {
        let output = std::process::Command::new("openssl").args(["rand", "-hex", "24"]).output()?;
        let token = String::from_utf8(output.stdout)?.trim().to_owned();
        ensure!(token.len() == 48, "openssl rand gave no token");
        tokens.push(format!("{token},{user},{user},\"{groups}\"\n"));
        let text = format!(
            "\
apiVersion: v1
kind: Config
current-context: cluster
clusters:
- name: cluster
  cluster: {{server: 'https://{HOST}:6443', certificate-authority: '{}'}}
contexts:
- name: cluster
  context: {{cluster: cluster, user: {name}}}
users:
- name: {name}
  user: {{token: {token}}}
",
            keys.join("ca.crt").display()
        );
        private(&kubeconfig(folder, name), &text)?;
    }
    private(&keys.join("tokens.csv"), &tokens.concat())
}

fn private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    std::fs::write(path, text).with_context(|| path.display().to_string())?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(())
}
