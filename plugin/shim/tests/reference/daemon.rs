//! A daemon's double that knows the networks of one test and keeps what is published.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

/// Definitions by name, and the `network-status` texts published, newest last.
#[derive(Default)]
pub(crate) struct Daemon {
    pub(crate) networks: Mutex<Vec<(String, Value)>>,
    pub(crate) published: Mutex<Vec<Value>>,
}

impl Daemon {
    pub(crate) fn start(socket: &Path) -> Arc<Self> {
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let daemon = Arc::new(Self::default());
        let own = Arc::clone(&daemon);
        std::thread::spawn(move || listener.incoming().for_each(|stream| own.serve(stream.unwrap())));
        daemon
    }

    fn serve(&self, stream: UnixStream) {
        let mut reader = BufReader::new(&stream);
        let (mut head, mut length) = (String::new(), 0);
        reader.read_line(&mut head).unwrap();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let Some((key, value)) = line.split_once(": ") else { break };
            if key.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let answer = self.answer(&head, &serde_json::from_slice(&body).unwrap()).to_string();
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
        (&stream).write_all((head + &answer).as_bytes()).unwrap();
    }

    fn answer(&self, head: &str, body: &Value) -> Value {
        if head.contains("/v1/publish") {
            let status = serde_json::from_str(body["status"].as_str().unwrap()).unwrap();
            self.published.lock().unwrap().push(status);
        }
        if !head.contains("/v1/resolve") {
            return json!({});
        }
        let networks = self.networks.lock().unwrap();
        let known = |wanted: &Value| {
            let (name, config) = networks.iter().find(|(name, _)| wanted["name"] == name.as_str()).unwrap();
            json!({"namespace": wanted["namespace"], "name": name, "config": config.to_string()})
        };
        json!({ "networks": body["selections"].as_array().unwrap().iter().map(known).collect::<Vec<_>>() })
    }
}
