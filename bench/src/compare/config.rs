//! Configurations of the servers that are no program of ours.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use super::answers::Answers;

/// Connections that nginx may hold: idle ones are counted by the thousand.
const CONNECTIONS: u32 = 32768;

/// nginx: one process, no log, `return 200`.
pub(super) fn nginx(address: SocketAddr, folder: &Path, answers: &Answers) -> String {
    let folder = folder.display();
    let fields = |fields: &[(String, String)]| {
        let mut text = "add_header X-Request-ID $request_id;".to_owned();
        for (name, value) in fields.iter().filter(|(name, _)| !is_the_servers_own(name)) {
            let _ = write!(text, " add_header {name} \"{}\";", escaped(value));
        }
        text
    };
    let live = answers
        .live_body_with_time("@")
        .split('@')
        .map(escaped)
        .collect::<Vec<_>>()
        .join("$time_iso8601");
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\nworker_rlimit_nofile {CONNECTIONS};\npid {folder}/nginx.pid;\n\
         error_log /dev/null crit;\nevents {{ worker_connections {CONNECTIONS}; multi_accept on; }}\nhttp {{\n\
         access_log off; server_tokens off; tcp_nodelay on; keepalive_timeout 75; keepalive_requests 1000000000;\n\
         default_type application/json;\n\
         client_body_temp_path {folder}/nginx-body; proxy_temp_path {folder}/nginx-proxy;\n\
         fastcgi_temp_path {folder}/nginx-fastcgi; uwsgi_temp_path {folder}/nginx-uwsgi; scgi_temp_path {folder}/nginx-scgi;\n\
         geo $dollar {{ default \"$\"; }}\n\
         server {{ listen {address} backlog=1024;\n\
         location = /health/v2/live {{ {} return 200 \"{live}\"; }}\n\
         location = /api/v1/stories/generate {{ {} return 200 \"{}\"; }}\n}} }}\n",
        fields(&answers.live.fields),
        fields(&answers.story.fields),
        escaped(&answers.story.body)
    )
}

/// What nginx and h2o write by themselves, or by another directive.
fn is_the_servers_own(name: &str) -> bool {
    ["server", "content-type"]
        .iter()
        .any(|own| name.eq_ignore_ascii_case(own))
}

/// Text between double quotes in nginx' configuration: two characters are escaped, and a dollar is a variable.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('$', "${dollar}")
}

/// h2o: one thread, no log, files.
pub(super) fn h2o(address: SocketAddr, folder: &Path, answers: &Answers) -> String {
    let folder = folder.display();
    let path = |path: &str, file: &str, fields: &[(String, String)]| {
        let mut text = format!("      \"{path}\":\n        - file.file: {folder}/{file}\n        - file.etag: OFF\n");
        let id = ("X-Request-ID".to_owned(), "0".repeat(32));
        let others = fields.iter().filter(|(name, _)| !is_the_servers_own(name));
        for (name, value) in others.chain([&id]) {
            let _ = writeln!(text, "        - header.set: '{name}: {}'", value.replace('\'', "''"));
        }
        text
    };
    format!(
        "{}num-threads: 1\nmax-connections: {CONNECTIONS}\nhttp1-request-timeout: 75\npid-file: {folder}/h2o.pid\n\
         listen:\n  host: {}\n  port: {}\nhosts:\n  default:\n    paths:\n{}{}",
        // Started by root, it would become nobody, who may not read the files.
        if rustix::process::geteuid().is_root() {
            "user: root\n"
        } else {
            ""
        },
        address.ip(),
        address.port(),
        path("/health/v2/live", "live.json", &answers.live.fields),
        path("/api/v1/stories/generate", "story.json", &answers.story.fields),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_for_nginx() {
        assert_eq!(escaped("a\"b\\n $1"), "a\\\"b\\\\n ${dollar}1");
    }

    #[test]
    fn configurations_name_the_port_and_all_fields() {
        let answers = Answers::example();
        let address = "127.0.0.1:81".parse().unwrap();
        let text = nginx(address, Path::new("/f"), &answers);
        assert!(
            text.contains("listen 127.0.0.1:81 ") && text.contains("add_header X-Worker-ID \"w\""),
            "{text}"
        );
        assert!(
            text.contains("$time_iso8601") && !text.contains("add_header Server"),
            "{text}"
        );
        let text = h2o(address, Path::new("/f"), &answers);
        assert!(
            text.contains("port: 81\n")
                && text.contains("/f/story.json")
                && text.contains("header.set: 'X-Worker-ID: w'")
        );
    }
}
