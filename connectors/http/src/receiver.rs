//! Whom requests are sent to, and what its answers mean.
//!
//! | answer | means |
//! |---|---|
//! | 2xx | the records are delivered |
//! | 408, 425, 429, 5xx, none | later, perhaps when `Retry-After` says |
//! | 413 with `Retry-After` | later: by that it says that it is temporary (RFC 9110, 15.5.14) |
//! | 3xx, 401, 403, 404 and others of [`stops`] | no record can be delivered until someone changes the settings or the receiver |
//! | 413, 400, 422 and other 4xx | a record is at fault, or there are too many of them |
//!
//! # Invariants
//!
//! - Nothing that is shown of the URL is secret: only scheme, host and port are, since paths and queries carry tokens.

use crate::config::{BodyFormat, HttpSinkConfig, wrong};
use base64::{Engine, prelude::BASE64_STANDARD};
use headwater_core::{
    ports::connector::{ConnectorError, RetryAfter},
    text::shown,
    time::{Clock, SystemClock},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Uri,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, EXPECT, HOST, RETRY_AFTER,
        TRANSFER_ENCODING,
    },
};
use percent_encoding::percent_decode_str;
use std::{
    cell::Cell,
    fmt,
    io::{self, Read},
    time::{Duration, SystemTime},
};
use url::{SyntaxViolation, Url};

/// How much of an answer is kept as a dead letter's cause.
const ANSWER_CHARS: usize = 200;

/// A body of so many bytes is announced: a receiver that finds it too large says so, and closes, before it is sent. Sent
/// without a word, its answer would be lost with the connection.
const ANNOUNCED_BYTES: usize = 64 << 10;
/// How long a receiver may think about an announced body, at most a quarter of a request's time. One that lets this pass and
/// takes the body knows no announcements.
const ANNOUNCED_WAIT: Duration = Duration::from_secs(1);

/// What a receiver made of the records of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Taken,
    /// One of them at least is at fault, or there are too many.
    Refused(String),
}

/// Where requests go.
pub(crate) struct Receiver {
    agent: ureq::Agent,
    clock: SystemClock,
    announced_wait: Duration,
    /// Whether it knows no announcements, as far as it has shown.
    takes_unannounced: Cell<bool>,
    uri: Uri,
    /// Scheme, host and port.
    name: String,
    authorization: Option<HeaderValue>,
    content_type: HeaderValue,
    key_header: HeaderName,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Whether a receiver is asked if it takes a body before that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Announcement {
    First,
    None,
}

impl Receiver {
    /// Reads the settings of the URL and its headers.
    pub(crate) fn new(config: &HttpSinkConfig) -> Result<Self, ConnectorError> {
        let mut url = parse(&config.url)?;
        let authorization = credentials(&url)?;
        if url.set_username("").and(url.set_password(None)).is_err() {
            return Err(wrong("url", "has no host"));
        }
        // What follows `#` is for readers of a document and never sent.
        url.set_fragment(None);
        let uri = Uri::try_from(url.as_str()).map_err(|error| wrong("url", error.to_string()))?;
        let timeout = Duration::from_millis(config.timeout_ms);
        let announced_wait = ANNOUNCED_WAIT.min(timeout / 4);
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .timeout_await_100(Some(announced_wait))
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .new_agent();
        let content_type = HeaderValue::from_static(match config.format {
            BodyFormat::Json => "application/json",
            BodyFormat::Ndjson => "application/x-ndjson",
        });
        let key_header = key_header(&config.idempotency_header)?;
        let name = url.origin().ascii_serialization();
        let (clock, takes_unannounced) = (SystemClock::new(), Cell::new(false));
        Ok(Self {
            agent,
            clock,
            announced_wait,
            takes_unannounced,
            uri,
            name,
            authorization,
            content_type,
            key_header,
        })
    }

    /// Scheme, host and port.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sends a body as the request of this key.
    pub(crate) fn post(&self, key: &str, body: &[u8]) -> Result<Answer, ConnectorError> {
        let is_announced = body.len() >= ANNOUNCED_BYTES && !self.takes_unannounced.get();
        let announcement = if is_announced { Announcement::First } else { Announcement::None };
        let mut response = self.send(key, body, announcement)?;
        if is_announced && response.status() == StatusCode::EXPECTATION_FAILED {
            self.takes_unannounced.set(true);
            response = self.send(key, body, Announcement::None)?;
        }
        let (parts, body) = response.into_parts();
        let status = parts.status;
        if status.is_success() {
            return Ok(Answer::Taken);
        }
        let detail = format!("HTTP {}: {}", status.as_u16(), beginning(body));
        let retry_after = retry_after(&parts.headers);
        let is_full = status == StatusCode::PAYLOAD_TOO_LARGE && retry_after.is_some();
        if is_temporary(status) || is_full {
            Err(self.later(detail, retry_after))
        } else if let Some(advice) = stops(status) {
            Err(self.refused(format!("{detail}; {advice}")))
        } else {
            Ok(Answer::Refused(detail))
        }
    }

    fn send(
        &self,
        key: &str,
        body: &[u8],
        announcement: Announcement,
    ) -> Result<http::Response<ureq::Body>, ConnectorError> {
        let mut request = self
            .agent
            .post(&self.uri)
            .header(CONTENT_TYPE, &self.content_type)
            .header(CONTENT_LENGTH, body.len())
            .header(&self.key_header, key);
        if announcement == Announcement::First {
            request = request.header(EXPECT, "100-continue");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let began = self.clock.elapsed();
        let mut body = Awaited { body, clock: &self.clock, began: None };
        let answer = request.send(ureq::SendBody::from_reader(&mut body));
        let waited = body.began.map(|at| at.saturating_sub(began));
        match &answer {
            Ok(response)
                if announcement == Announcement::First && response.status().is_success() =>
            {
                let let_pass = waited.is_some_and(|waited| waited >= self.announced_wait);
                self.takes_unannounced.set(let_pass);
            }
            // Its answer may have been lost with the connection, as that to a body that is too large.
            Err(_) => self.takes_unannounced.set(false),
            Ok(_) => {}
        }
        answer.map_err(|error| self.unanswered(&error))
    }

    fn later(&self, mut detail: String, retry_after: Option<RetryAfter>) -> ConnectorError {
        if let Some(RetryAfter::Elapsed(wait)) = retry_after {
            detail.push_str(&format!("; it wants the request again after {} s", wait.as_secs()));
        }
        ConnectorError::Remote { remote: self.name.clone(), detail, retry_after }
    }

    fn refused(&self, detail: String) -> ConnectorError {
        ConnectorError::Refused { remote: self.name.clone(), detail }
    }

    /// Without an answer the receiver, or the way to it, may be better later; what is wrong with the request stays wrong.
    fn unanswered(&self, error: &ureq::Error) -> ConnectorError {
        use ureq::Error::{BadUri, Http, InvalidProxyUrl};
        if matches!(error, BadUri(_) | Http(_) | InvalidProxyUrl) {
            self.refused(format!("{error}; check `url` and the proxy of the environment"))
        } else {
            self.later(error.to_string(), None)
        }
    }
}

/// A body that notes when its sending begins.
struct Awaited<'a> {
    body: &'a [u8],
    clock: &'a SystemClock,
    began: Option<Duration>,
}

impl Read for Awaited<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.began.get_or_insert_with(|| self.clock.elapsed());
        self.body.read(into)
    }
}

/// Reads a URL of http or https, and nothing that only looks like one.
fn parse(text: &str) -> Result<Url, ConnectorError> {
    let slip = Cell::new(None);
    let note = |violation| {
        // Browsers guess what was meant by these, and may guess another host.
        if matches!(
            violation,
            SyntaxViolation::ExpectedDoubleSlash
                | SyntaxViolation::Backslash
                | SyntaxViolation::TabOrNewlineIgnored
                | SyntaxViolation::UnencodedAtSign
        ) {
            slip.set(Some(violation));
        }
    };
    // The text itself may be secret, and is not repeated.
    let url = Url::options()
        .syntax_violation_callback(Some(&note))
        .parse(text)
        .map_err(|error| wrong("url", format!("is no URL of http:// or https://: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        let scheme = url.scheme();
        return Err(wrong("url", format!("begins with `{scheme}:`, not with http:// or https://")));
    }
    if let Some(violation) = slip.get() {
        return Err(wrong("url", violation.description()));
    }
    if url.port() == Some(0) {
        return Err(wrong("url", "has port 0, to which nothing can be sent"));
    }
    Ok(url)
}

/// User and password of a URL as Basic credentials, if it has any.
fn credentials(url: &Url) -> Result<Option<HeaderValue>, ConnectorError> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let user: Vec<u8> = percent_decode_str(url.username()).collect();
    if user.contains(&b':') {
        return Err(wrong("url", "has a colon in its user, which Basic credentials cannot have"));
    }
    let password = percent_decode_str(url.password().unwrap_or_default());
    let pair: Vec<u8> = user.into_iter().chain([b':']).chain(password).collect();
    let basic = format!("Basic {}", BASE64_STANDARD.encode(pair));
    let mut value =
        HeaderValue::try_from(basic).map_err(|error| wrong("url", error.to_string()))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The name of the key's header, which must not be one that a request has already.
fn key_header(name: &str) -> Result<HeaderName, ConnectorError> {
    let setting = "idempotency_header";
    let header = HeaderName::try_from(name)
        .map_err(|_| wrong(setting, format!("`{name}` is no name of a header")))?;
    let taken =
        [AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TRANSFER_ENCODING];
    if taken.contains(&header) {
        return Err(wrong(setting, format!("`{name}` has a meaning of its own")));
    }
    Ok(header)
}

fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        )
}

/// What to do about an answer that is about the URL, the credentials or the format, and not about the records.
fn stops(status: StatusCode) -> Option<&'static str> {
    Some(match status.as_u16() {
        100..=199 | 300..=399 => {
            "redirects are not followed: give the URL that it is to be sent to"
        }
        401 | 407 => "check user and password: `https://USER:PASSWORD@host/…`, percent-encoded",
        402 | 403 | 451 => "check what this user may do, or ask who runs the receiver",
        404 | 410 => "check the path of `url`",
        405 => "check `url`: what it names takes no POST",
        406 | 415 => "check `format`: it does not take this one",
        411 | 414 | 417 | 421 | 426 | 428 | 431 => "check `url` and what the receiver expects",
        _ => return None,
    })
}

/// When the receiver wants the request again, if it says so in a way that can be read.
fn retry_after(headers: &HeaderMap) -> Option<RetryAfter> {
    let text = |name| Some(headers.get(name)?.to_str().ok()?.trim());
    let said = text(RETRY_AFTER)?;
    if !said.is_empty() && said.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than fits is more than any budget.
        return Some(RetryAfter::Elapsed(Duration::from_secs(said.parse().unwrap_or(u64::MAX))));
    }
    let at = httpdate::parse_http_date(said).ok()?;
    // Its own clock is the one that it means.
    if let Some(now) = text(DATE).and_then(|date| httpdate::parse_http_date(date).ok()) {
        return Some(RetryAfter::Elapsed(at.duration_since(now).unwrap_or_default()));
    }
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Some(RetryAfter::At(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
}

/// The beginning of an answer's text, fit for a terminal.
fn beginning(body: ureq::Body) -> String {
    let mut bytes = Vec::new();
    // What fails here fails after the answer, which stands.
    drop(body.into_reader().take(4 * ANSWER_CHARS as u64).read_to_end(&mut bytes));
    shown(bytes.trim_ascii()).chars().take(ANSWER_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HttpSink;
    use std::net::TcpListener;

    fn receiver(url: &str) -> Result<Receiver, ConnectorError> {
        Receiver::new(&HttpSinkConfig::new(url))
    }

    /// What is requested of whom, and with which credentials.
    fn check(url: &str, uri: &str, credentials: Option<&str>) {
        let found = receiver(url).unwrap();
        assert_eq!(found.uri.to_string(), uri, "{url}");
        let basic = credentials.map(|pair| format!("Basic {}", BASE64_STANDARD.encode(pair)));
        let sent = found.authorization.map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(sent, basic, "{url}");
    }

    #[test]
    fn a_url_is_read_as_rfc_3986_says() {
        check("HTTP://Example.COM/Hook", "http://example.com/Hook", None);
        check("hTTps://h:443/a?q=1#part", "https://h/a?q=1", None);
        check("http://h", "http://h/", None);
        check("http://h?q", "http://h/?q", None);
        check("http://[::1]:8080/x", "http://[::1]:8080/x", None);
        check("http://[2001:DB8::1]/", "http://[2001:db8::1]/", None);
        check("http://h:080/", "http://h/", None);
        check("http://h:65535/", "http://h:65535/", None);
        check("http://h/a b/ü?c=ö", "http://h/a%20b/%C3%BC?c=%C3%B6", None);
        check("http://bücher.example/", "http://xn--bcher-kva.example/", None);
        check("http://me:pw@h/", "http://h/", Some("me:pw"));
        check("http://me@h:81/", "http://h:81/", Some("me:"));
        check("http://:pw@h/", "http://h/", Some(":pw"));
        check("http://a%40b:p%3Aw%2F%25@h/", "http://h/", Some("a@b:p:w/%"));
        check("http://ü:p%C3%BC@h/", "http://h/", Some("ü:pü"));
    }

    #[test]
    fn what_is_no_url_is_refused_without_showing_it() {
        for url in [
            "",
            "h",
            "h/hook",
            "/hook",
            "localhost:80",
            "ftp://h",
            "file:///etc/passwd",
            "http:",
            "http://",
            "http:///secret",
            "http:/secret",
            "http:secret",
            "http://h:secret",
            "http://h:0/",
            "http://h:65536",
            "http://h\\secret",
            "http://[::1",
            "http://[fe80::1%25eth0]/",
            "http://a b/",
            "http://se\ncret/",
            "http://me:secret@other@h/",
            "http://a%3Ab:secret@h/",
            "unix:///run/secret",
        ] {
            let error = receiver(url).unwrap_err();
            assert!(matches!(error, ConnectorError::Config { .. }), "{url}: {error}");
            assert!(!error.to_string().contains("secret"), "{url}: {error}");
        }
        let long = format!("http://h/{}", "x".repeat(70_000));
        assert!(receiver(&long).is_err());
    }

    #[test]
    fn secrets_of_a_url_are_shown_nowhere() {
        let config = HttpSinkConfig::new("https://me:secret@h:81/secret?key=secret#secret");
        let receiver = Receiver::new(&config).unwrap();
        assert_eq!(receiver.name(), "https://h:81");
        let debug = format!("{config:?} {:?}", HttpSink::new(config.clone()).unwrap());
        assert!(!debug.contains("secret"), "{debug}");
        let refused = receiver.refused("HTTP 401".to_owned());
        assert_eq!(refused.to_string(), "https://h:81: HTTP 401");
    }

    #[test]
    fn a_header_for_the_key_is_one_that_a_request_does_not_have() {
        for name in ["", "a b", "ü", "Host", "content-TYPE", "Authorization", "x:y"] {
            let config = HttpSinkConfig {
                idempotency_header: name.to_owned(),
                ..HttpSinkConfig::new("http://h")
            };
            let error = config.check().unwrap_err().to_string();
            assert!(error.starts_with("idempotency_header: "), "{error}");
        }
    }

    #[test]
    fn a_receiver_has_a_second_for_an_announcement_or_a_quarter_of_the_request() {
        for (timeout_ms, wait) in [(1, 0), (400, 100), (4_000, 1_000), (u64::MAX, 1_000)] {
            let config = HttpSinkConfig { timeout_ms, ..HttpSinkConfig::new("http://h") };
            let found = Receiver::new(&config).unwrap().announced_wait;
            assert_eq!(found.as_millis(), wait, "{timeout_ms}");
            assert!(found > Duration::ZERO);
        }
    }

    #[test]
    fn a_body_whose_answer_is_lost_is_announced_the_next_time() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let receiver = receiver(&format!("http://{closed}")).unwrap();
        receiver.takes_unannounced.set(true);
        assert!(receiver.post("key", &[b' '; ANNOUNCED_BYTES]).unwrap_err().is_retriable());
        assert!(!receiver.takes_unannounced.get());
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let headers = |pairs: &[(HeaderName, &str)]| {
            let pair = |(name, value): &(HeaderName, &str)| (name.clone(), value.parse().unwrap());
            retry_after(&pairs.iter().map(pair).collect())
        };
        let seconds = |count| Some(RetryAfter::Elapsed(Duration::from_secs(count)));
        for (said, wanted) in [
            ("0", seconds(0)),
            ("1", seconds(1)),
            (" 120 ", seconds(120)),
            ("18446744073709551615", seconds(u64::MAX)),
            ("99999999999999999999999", seconds(u64::MAX)),
            ("Thu, 05 Nov 2026 10:00:00 GMT", Some(RetryAfter::At(1_793_872_800_000))),
            ("Thursday, 05-Nov-26 10:00:00 GMT", Some(RetryAfter::At(1_793_872_800_000))),
            ("Thu Nov  5 10:00:00 2026", Some(RetryAfter::At(1_793_872_800_000))),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(headers(&[(RETRY_AFTER, said)]), wanted, "{said}");
        }
        let date = (DATE, "Thu, 05 Nov 2026 09:59:30 GMT");
        let after = (RETRY_AFTER, "Thu, 05 Nov 2026 10:00:00 GMT");
        let before = (RETRY_AFTER, "Thu, 05 Nov 2026 09:00:00 GMT");
        assert_eq!(headers(&[date.clone(), after]), seconds(30));
        assert_eq!(headers(&[date, before]), seconds(0));
        assert_eq!(headers(&[]), None);
    }

    #[test]
    fn each_status_is_about_the_records_or_not() {
        let of = |code: u16| {
            let status = StatusCode::from_u16(code).unwrap();
            (is_temporary(status), stops(status).is_some())
        };
        for code in [408, 425, 429, 500, 502, 503, 504, 507] {
            assert_eq!(of(code), (true, false), "{code}");
        }
        for code in [
            301, 302, 304, 307, 308, 401, 402, 403, 404, 405, 406, 407, 410, 411, 414, 415, 417,
            421, 426, 428, 431, 451,
        ] {
            assert_eq!(of(code), (false, true), "{code}");
        }
        for code in [400, 409, 412, 413, 416, 418, 422, 424] {
            assert_eq!(of(code), (false, false), "{code}");
        }
    }
}
