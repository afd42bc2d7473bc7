//! Tokens (RFC 7519) in place of a password. A key knows its one algorithm, so a token cannot choose how it is judged; a token
//! that does not say when it expires is none.

use super::chain::{Answer, Asked, Link, Porter};
use super::key_set::KeySet;
use crate::access::{Grants, Identity, Login, Proof, Token};
use crate::codec::{ReasonCode, TopicLimits, check_filter};
use crate::files;
use arc_swap::ArcSwap;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

use std::future::ready;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Longest token, in bytes.
const TOKEN_SIZE_MAX: usize = 16 << 10;
/// Shortest secret of HS256, in bytes: that of its hash (RFC 7518, 3.2).
const SECRET_SIZE_MIN: usize = 32;
/// Largest file of keys, in bytes.
const FILE_SIZE_MAX: u64 = 1 << 20;
/// Most keys of a set.
const KEYS_MAX: usize = 100;
/// Most Topic Filters in one claim, and what each may be.
const FILTERS_MAX: usize = 1000;
const FILTER: TopicLimits = TopicLimits { levels_max: 128, ..TopicLimits::NONE };
/// Longest user name, in bytes.
const NAME_SIZE_MAX: usize = 1024;

/// What a token has to say.
#[derive(Clone, Debug, Default)]
pub struct TokenRules {
    pub issuer: Option<String>,
    /// `None`: the token must not be for anybody in particular.
    pub audience: Option<String>,
    pub user_claim: String,
    pub client_id_claim: Option<String>,
    pub publish_claim: String,
    pub subscribe_claim: String,
    pub leeway: Duration,
}

/// Where keys are.
#[derive(Clone, Debug)]
pub enum KeyFile {
    /// One key and its algorithm.
    Bare(PathBuf, Algorithm),
    /// A JSON Web Key Set.
    Set(PathBuf),
}

/// Why keys were not taken; those in force, if any, stay.
#[derive(Debug, Error)]
#[error("{}: {why}", path.display())]
pub struct KeysNotLoaded {
    pub path: PathBuf,
    pub why: String,
}

/// Judges tokens by keys that are swapped as a whole when they are loaded again.
pub struct Tokens {
    rules: TokenRules,
    files: Vec<KeyFile>,
    keys: ArcSwap<Vec<Key>>,
    /// More keys, of somebody else.
    set: Option<KeySet>,
}

pub(super) struct Key {
    /// `kid`; a key without one is tried for every token.
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// What a good token says.
#[derive(Debug, PartialEq)]
struct Bearer {
    user: Box<str>,
    /// Seconds since 1970, leeway included.
    expires_s: f64,
    grants: Option<Grants>,
}

impl Tokens {
    /// Reads the keys.
    ///
    /// # Errors
    /// The first file that cannot be read or that has no key that we can use.
    pub fn load(rules: TokenRules, files: Vec<KeyFile>, set: Option<KeySet>) -> Result<Self, KeysNotLoaded> {
        let keys = ArcSwap::from_pointee(read_all(&files)?);
        Ok(Self { rules, files, keys, set })
    }

    /// Begins to fetch the set, if there is one, and does not wait for it.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn start(&self) -> io::Result<()> {
        self.set.as_ref().map_or(Ok(()), KeySet::start)
    }

    /// The keys that are fetched.
    pub fn set(&self) -> Option<&KeySet> {
        self.set.as_ref()
    }

    /// Reads the files again: how many keys they have now.
    ///
    /// # Errors
    /// As [`Tokens::load`]; then nothing has changed.
    pub fn reload(&self) -> Result<usize, KeysNotLoaded> {
        let keys = read_all(&self.files)?;
        let count = keys.len();
        self.keys.store(Arc::new(keys));
        Ok(count)
    }

    /// Who bears a token, by the wall clock's seconds since 1970.
    fn judge(&self, token: &[u8], login: &Login, now_s: f64) -> Result<Bearer, &'static str> {
        if token.len() > TOKEN_SIZE_MAX {
            return Err("a token that is too long");
        }
        let claims = self.claims(token)?;
        let leeway_s = self.rules.leeway.as_secs_f64();
        let expires_s = number(&claims, "exp")?.ok_or("a token that never expires")? + leeway_s;
        if now_s >= expires_s {
            return Err("a token that has expired");
        }
        if number(&claims, "nbf")?.is_some_and(|not_before_s| now_s + leeway_s < not_before_s) {
            return Err("a token that is not valid yet");
        }
        let user = text(&claims, &self.rules.user_claim).ok_or("a token without a user name")?;
        if user.is_empty() || user.len() > NAME_SIZE_MAX || user.contains(char::is_control) {
            return Err("a token with a name that is no user name");
        }
        if login.user_name.as_deref().is_some_and(|name| name != user) {
            return Err("a token of somebody else");
        }
        if let Some(claim) = &self.rules.client_id_claim
            && text(&claims, claim) != Some(&login.client_id)
        {
            return Err("a token for another Client Identifier");
        }
        let publish = filters(&claims, &self.rules.publish_claim)?;
        let subscribe = filters(&claims, &self.rules.subscribe_claim)?;
        let has_grants = publish.is_some() || subscribe.is_some();
        let grants = has_grants
            .then(|| Grants { publish: publish.unwrap_or_default(), subscribe: subscribe.unwrap_or_default() });
        Ok(Bearer { user: user.into(), expires_s, grants })
    }

    /// The claims of a token that one of the keys has signed.
    fn claims(&self, token: &[u8]) -> Result<Map<String, Value>, &'static str> {
        let header = decode_header(token).map_err(|_| "an ill-formed token")?;
        if header.crit.is_some() {
            return Err("a token with an extension that must be understood");
        }
        let set = self.set.as_ref().and_then(KeySet::keys);
        for key in self.keys.load().iter().chain(set.iter().flat_map(|keys| keys.iter())) {
            let is_meant = header.kid.is_none() || key.id.is_none() || key.id == header.kid;
            if key.algorithm != header.alg || !is_meant {
                continue;
            }
            if let Ok(decoded) = decode(token, &key.key, &self.validation(key.algorithm)) {
                return Ok(decoded.claims);
            }
        }
        Err("a token that no key of ours has signed, or for somebody else than us")
    }

    /// Whether its key may be in a set that has not been fetched yet.
    fn may_lack_key(&self, token: &[u8]) -> bool {
        let Some(set) = &self.set else { return false };
        let Ok(header) = decode_header(token) else { return false };
        match (set.keys(), header.kid) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(keys), kid) => !self.keys.load().iter().chain(keys.iter()).any(|key| key.id == kid),
        }
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        let mut required = vec!["exp"];
        if let Some(issuer) = &self.rules.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &self.rules.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        // By our clock, below.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation
    }
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name)?.as_str()
}

fn number(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, &'static str> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => {
            value.as_f64().filter(|number| number.is_finite()).map(Some).ok_or("a token with a time that is none")
        }
    }
}

fn filters(claims: &Map<String, Value>, name: &str) -> Result<Option<Box<[Box<str>]>>, &'static str> {
    let Some(claim) = claims.get(name) else { return Ok(None) };
    let fault = "a token with rights that are not a list of Topic Filters";
    let listed = claim.as_array().filter(|listed| listed.len() <= FILTERS_MAX).ok_or(fault)?;
    let filter = |value: &Value| {
        let filter = value.as_str().ok_or(fault)?;
        check_filter(filter, FILTER).map_err(|_| fault)?;
        Ok(Box::from(filter))
    };
    listed.iter().map(filter).collect::<Result<_, _>>().map(Some)
}

fn read_all(files: &[KeyFile]) -> Result<Vec<Key>, KeysNotLoaded> {
    let mut keys = Vec::new();
    for file in files {
        let path = match file {
            KeyFile::Bare(path, _) | KeyFile::Set(path) => path,
        };
        let read = read(path).and_then(|bytes| match file {
            KeyFile::Bare(_, algorithm) => bare(&bytes, *algorithm).map(|key| vec![key]),
            KeyFile::Set(_) => set(&bytes),
        });
        keys.extend(read.map_err(|why| KeysNotLoaded { path: path.clone(), why })?);
    }
    Ok(keys)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    files::read_whole(path, FILE_SIZE_MAX).map_err(|unread| format!("the key file cannot be read: {unread}"))
}

fn bare(bytes: &[u8], algorithm: Algorithm) -> Result<Key, String> {
    let is_pem = bytes.starts_with(b"-----BEGIN");
    let key = match algorithm {
        Algorithm::HS256 if is_pem => {
            return Err(
                "this is a PEM file, which is no secret: HS256 with a public key would let everybody sign".to_owned()
            );
        }
        Algorithm::HS256 => {
            let secret = bytes.strip_suffix(b"\n").unwrap_or(bytes);
            if secret.len() < SECRET_SIZE_MIN {
                return Err(format!("the secret is shorter than {SECRET_SIZE_MIN} bytes"));
            }
            Ok(DecodingKey::from_secret(secret))
        }
        Algorithm::RS256 => DecodingKey::from_rsa_pem(bytes),
        Algorithm::ES256 => DecodingKey::from_ec_pem(bytes),
        Algorithm::EdDSA => DecodingKey::from_ed_pem(bytes),
        _ => return Err("tokens are signed by HS256, RS256, ES256 or EdDSA".to_owned()),
    };
    let key = key.map_err(|error| format!("this is no public key for {algorithm:?} as PEM: {error}"))?;
    Ok(Key { id: None, algorithm, key })
}

/// A set that somebody else publishes. What is published is no secret, so there is none for HS256.
pub(super) fn keys_of_others(bytes: &[u8]) -> Result<Vec<Key>, String> {
    let mut keys = set(bytes)?;
    keys.retain(|key| key.algorithm != Algorithm::HS256);
    if keys.is_empty() { Err("there is no public key for RS256, ES256 or EdDSA".to_owned()) } else { Ok(keys) }
}

fn set(bytes: &[u8]) -> Result<Vec<Key>, String> {
    let set: JwkSet = serde_json::from_slice(bytes).map_err(|error| format!("this is no JSON Web Key Set: {error}"))?;
    if set.keys.len() > KEYS_MAX {
        return Err(format!("there are more than {KEYS_MAX} keys"));
    }
    let keys: Vec<Key> = set.keys.iter().filter_map(one_of_a_set).collect();
    if keys.is_empty() { Err("there is no key for HS256, RS256, ES256 or EdDSA".to_owned()) } else { Ok(keys) }
}

/// `None`: not a key for signatures of a kind that we know, which others may well need.
fn one_of_a_set(jwk: &Jwk) -> Option<Key> {
    if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
        return None;
    }
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        AlgorithmParameters::OctetKey(_) => (Algorithm::HS256, KeyAlgorithm::HS256),
        _ => return None,
    };
    if jwk.common.key_algorithm.is_some_and(|other| other != named) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    let is_short =
        algorithm == Algorithm::HS256 && key.try_get_as_bytes().is_ok_and(|secret| secret.len() < SECRET_SIZE_MIN);
    (!is_short).then(|| Key { id: jwk.common.key_id.clone(), algorithm, key })
}

/// Takes a password for a token where it looks like one; then nobody else is asked.
#[derive(Clone)]
pub struct JwtLink {
    tokens: Arc<Tokens>,
    /// Seconds since 1970.
    wall_clock: fn() -> f64,
}

impl JwtLink {
    pub fn new(tokens: Arc<Tokens>, wall_clock: fn() -> f64) -> Self {
        Self { tokens, wall_clock }
    }

    async fn answer_when_keys_are_fresh(self, porter: Porter, login: Arc<Login>) -> Answer {
        let token = login.password.as_deref().unwrap_or_default();
        if let Some(set) = &self.tokens.set {
            set.fresher().await;
            if set.keys().is_none() {
                let why = "a token whose key may be in a set that could not be fetched yet";
                return Answer::Deny { reason: ReasonCode::ServerUnavailable, why };
            }
        }
        self.answer(&porter, &login, token)
    }

    fn answer(&self, porter: &Porter, login: &Login, token: &[u8]) -> Answer {
        let now_s = (self.wall_clock)();
        match self.tokens.judge(token, login, now_s) {
            Err(why) => Answer::Deny { reason: ReasonCode::BadUserNameOrPassword, why },
            Ok(Bearer { user, expires_s, grants }) => {
                // As the node's clock counts: a wall clock that jumps later on changes nothing.
                let left = Duration::try_from_secs_f64(expires_s - now_s).unwrap_or(Duration::MAX);
                let expires_at = Some(porter.now().plus(left));
                let token = Token { expires_at, grants, ..Token::default() };
                let identity = Identity { token: Some(Box::new(token)), ..Identity::proven(&user, Proof::Shown) };
                Answer::Accept { identity, data: None }
            }
        }
    }
}

/// Three parts of base64url, the first of which is a JSON object.
fn looks_like_a_token(password: &[u8]) -> bool {
    let is_token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    password.starts_with(b"e")
        && password.iter().filter(|byte| **byte == b'.').count() == 2
        && password.iter().all(is_token_byte)
}

impl Link for JwtLink {
    fn ask(&self, porter: &Porter, login: &Arc<Login>) -> Asked {
        let Some(token) = login.password.as_deref().filter(|password| looks_like_a_token(password)) else {
            return Box::pin(ready(Answer::NotMine));
        };
        // First: keys that come in between must not make a missing key a wrong token.
        let may_lack_key = token.len() <= TOKEN_SIZE_MAX && self.tokens.may_lack_key(token);
        match self.answer(porter, login, token) {
            Answer::Deny { .. } if may_lack_key => {
                Box::pin(self.clone().answer_when_keys_are_fresh(porter.clone(), Arc::clone(login)))
            }
            answer => Box::pin(ready(answer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bearer, Key, TokenRules, Tokens, bare, looks_like_a_token, set};
    use crate::access::{Grants, Login};
    use arc_swap::ArcSwap;
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
    use base64ct::{Base64, Base64UrlUnpadded, Encoding};
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use serde_json::{Value, json};
    use std::time::Duration;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    const NOW: f64 = 1_700_000_000.0;

    /// A private key made for this test, and the public one as PEM.
    fn pair(algorithm: Algorithm) -> (EncodingKey, Vec<u8>) {
        let random = SystemRandom::new();
        match algorithm {
            Algorithm::ES256 => {
                let signing = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
                let private = EcdsaKeyPair::generate_pkcs8(signing, &random).expect("a key");
                let pair = EcdsaKeyPair::from_pkcs8(signing, private.as_ref()).expect("a key");
                (EncodingKey::from_ec_der(private.as_ref()), pem(&pair.public_key().as_der().expect("a key")))
            }
            Algorithm::EdDSA => {
                let private = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
                let pair = Ed25519KeyPair::from_pkcs8(private.as_ref()).expect("a key");
                (EncodingKey::from_ed_der(private.as_ref()), pem(&pair.public_key().as_der().expect("a key")))
            }
            Algorithm::RS256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
                let private: Pkcs8V1Der<'_> = pair.as_der().expect("a key");
                let private = format!(
                    "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
                    Base64::encode_string(private.as_ref())
                );
                let public: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("a key");
                (EncodingKey::from_rsa_pem(private.as_bytes()).expect("a key"), pem(&public))
            }
            _ => (EncodingKey::from_secret(SECRET), SECRET.to_vec()),
        }
    }

    fn pem(public: &PublicKeyX509Der<'_>) -> Vec<u8> {
        let text = Base64::encode_string(public.as_ref());
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n").into_bytes()
    }

    fn rules() -> TokenRules {
        TokenRules {
            user_claim: "sub".to_owned(),
            publish_claim: "publish".to_owned(),
            subscribe_claim: "subscribe".to_owned(),
            ..TokenRules::default()
        }
    }

    fn tokens(rules: TokenRules, keys: Vec<Key>) -> Tokens {
        Tokens { rules, files: Vec::new(), keys: ArcSwap::from_pointee(keys), set: None }
    }

    fn shared() -> Key {
        bare(SECRET, Algorithm::HS256).expect("a long secret")
    }

    fn by_secret(claims: &Value) -> String {
        encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET)).expect("a token")
    }

    fn good() -> Value {
        json!({"sub": "alice", "exp": NOW as u64 + 60})
    }

    fn login(client_id: &str, user_name: Option<&str>) -> Login {
        Login { client_id: client_id.into(), user_name: user_name.map(Into::into), ..Login::default() }
    }

    fn judged(tokens: &Tokens, token: &str) -> Result<Bearer, &'static str> {
        assert!(looks_like_a_token(token.as_bytes()), "{token}");
        tokens.judge(token.as_bytes(), &login("c", None), NOW)
    }

    #[test]
    fn each_algorithm_by_its_key() {
        let pairs = [Algorithm::HS256, Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256].map(|algorithm| {
            let (private, public) = pair(algorithm);
            (algorithm, private, public)
        });
        for (signer, private, _) in &pairs {
            let token = encode(&Header::new(*signer), &good(), private).expect("a token");
            for (algorithm, _, public) in &pairs {
                let tokens = tokens(rules(), vec![bare(public, *algorithm).expect("a key")]);
                assert_eq!(judged(&tokens, &token).is_ok(), signer == algorithm, "{signer:?} by {algorithm:?}");
            }
        }
    }

    #[test]
    fn a_public_key_is_no_secret() {
        let (_, public) = pair(Algorithm::RS256);
        // The classic: the token says HS256 and is signed with the text of the public key.
        let forged = EncodingKey::from_secret(&public);
        let forged = encode(&Header::new(Algorithm::HS256), &good(), &forged).expect("a token");
        let tokens = tokens(rules(), vec![bare(&public, Algorithm::RS256).expect("a key")]);
        assert!(judged(&tokens, &forged).is_err());
        let refused = bare(&public, Algorithm::HS256).map(|_| ()).expect_err("it is no secret");
        assert!(refused.contains("would let everybody sign"), "{refused}");
    }

    #[test]
    fn unsigned_and_altered_tokens_are_refused() {
        let tokens = tokens(rules(), vec![shared()]);
        let token = by_secret(&good());
        assert!(judged(&tokens, &token).is_ok());
        let (head, signature) = token.rsplit_once('.').expect("three parts");
        let (_, claims) = head.split_once('.').expect("three parts");
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"NONE"}"#,
            r#"{"alg":""}"#,
            r#"{}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"HS256","crit":["exp"]}"#,
            r#"{"alg":"HS256","kid":"../../etc/passwd"}"#,
        ] {
            let header = Base64UrlUnpadded::encode_string(header.as_bytes());
            for signature in ["", signature] {
                assert!(judged(&tokens, &format!("{header}.{claims}.{signature}")).is_err(), "{header}");
            }
        }
        for end in 0..token.len() {
            assert!(tokens.judge(&token.as_bytes()[..end], &login("c", None), NOW).is_err());
        }
        let long = format!("{head}.{}", "A".repeat(1 << 20));
        assert_eq!(judged(&tokens, &long), Err("a token that is too long"));
    }

    #[test]
    fn what_a_token_must_say() {
        let tokens_with = |change: fn(&mut TokenRules)| {
            let mut rules = rules();
            change(&mut rules);
            tokens(rules, vec![shared()])
        };
        let plain = tokens_with(|_| ());
        let soon = NOW as u64;
        for (claims, expected) in [
            (json!({"sub": "a", "exp": soon + 1}), Ok(())),
            (json!({"sub": "a", "exp": NOW + 0.5}), Ok(())),
            (json!({"sub": "a", "exp": soon}), Err("a token that has expired")),
            (json!({"sub": "a", "exp": 0}), Err("a token that has expired")),
            (json!({"sub": "a", "exp": soon + 9, "nbf": soon + 1}), Err("a token that is not valid yet")),
            (json!({"sub": "a", "exp": soon + 9, "nbf": soon}), Ok(())),
            (json!({"exp": soon + 9}), Err("a token without a user name")),
            (json!({"sub": 5, "exp": soon + 9}), Err("a token without a user name")),
            (json!({"sub": "", "exp": soon + 9}), Err("a token with a name that is no user name")),
            (json!({"sub": "a\u{0}", "exp": soon + 9}), Err("a token with a name that is no user name")),
            (
                json!({"sub": "a", "exp": soon + 9, "publish": "a/#"}),
                Err("a token with rights that are not a list of Topic Filters"),
            ),
            (
                json!({"sub": "a", "exp": soon + 9, "publish": ["a/#/b"]}),
                Err("a token with rights that are not a list of Topic Filters"),
            ),
            (
                json!({"sub": "a", "exp": soon + 9, "subscribe": [5]}),
                Err("a token with rights that are not a list of Topic Filters"),
            ),
        ] {
            assert_eq!(judged(&plain, &by_secret(&claims)).map(|_| ()), expected, "{claims}");
        }
        let no_expiry = judged(&plain, &by_secret(&json!({"sub": "a"})));
        assert!(no_expiry.is_err());

        let lenient = tokens_with(|rules| rules.leeway = Duration::from_secs(5));
        assert!(judged(&lenient, &by_secret(&json!({"sub": "a", "exp": soon - 4}))).is_ok());
        assert!(judged(&lenient, &by_secret(&json!({"sub": "a", "exp": soon - 5}))).is_err());

        let ours = tokens_with(|rules| {
            rules.audience = Some("mqtt".to_owned());
            rules.issuer = Some("us".to_owned());
        });
        for (audience, issuer, is_good) in [
            (json!("mqtt"), json!("us"), true),
            (json!(["web", "mqtt"]), json!("us"), true),
            (json!("web"), json!("us"), false),
            (json!([]), json!("us"), false),
            (Value::Null, json!("us"), false),
            (json!("mqtt"), json!("them"), false),
            (json!("mqtt"), Value::Null, false),
        ] {
            let claims = json!({"sub": "a", "exp": soon + 9, "aud": audience, "iss": issuer});
            assert_eq!(judged(&ours, &by_secret(&claims)).is_ok(), is_good, "{claims}");
        }
        assert!(judged(&ours, &by_secret(&good())).is_err(), "neither");
        let for_others = json!({"sub": "a", "exp": soon + 9, "aud": "web"});
        assert!(judged(&plain, &by_secret(&for_others)).is_err(), "a token for somebody is not for everybody");
    }

    #[test]
    fn a_token_is_for_its_user_and_its_client() {
        let plain = tokens(rules(), vec![shared()]);
        let token = by_secret(&good());
        assert!(plain.judge(token.as_bytes(), &login("c", Some("alice")), NOW).is_ok());
        let other = plain.judge(token.as_bytes(), &login("c", Some("bob")), NOW);
        assert_eq!(other, Err("a token of somebody else"));
        let bound = tokens(TokenRules { client_id_claim: Some("cid".to_owned()), ..rules() }, vec![shared()]);
        let token = by_secret(&json!({"sub": "alice", "exp": NOW as u64 + 9, "cid": "c1"}));
        assert!(bound.judge(token.as_bytes(), &login("c1", None), NOW).is_ok());
        assert!(bound.judge(token.as_bytes(), &login("c2", None), NOW).is_err());
        assert!(bound.judge(by_secret(&good()).as_bytes(), &login("c1", None), NOW).is_err());
    }

    #[test]
    fn rights_and_the_end_come_with_the_token() {
        let tokens = tokens(rules(), vec![shared()]);
        let claims = json!({"sub": "alice", "exp": NOW as u64 + 9, "publish": ["a/+", "b"], "other": {"deep": [1]}});
        let grants = Grants { publish: Box::new(["a/+".into(), "b".into()]), subscribe: Box::new([]) };
        let bearer = Bearer { user: "alice".into(), expires_s: NOW + 9.0, grants: Some(grants) };
        assert_eq!(judged(&tokens, &by_secret(&claims)), Ok(bearer));
        assert_eq!(judged(&tokens, &by_secret(&good())).map(|bearer| bearer.grants), Ok(None));
    }

    #[test]
    fn a_set_of_keys_is_found_by_its_names_and_each_has_one_algorithm() {
        let secret = Base64UrlUnpadded::encode_string(SECRET);
        let text = json!({"keys": [
            {"kty": "oct", "kid": "old", "k": secret},
            {"kty": "oct", "kid": "short", "k": "AAAA"},
            {"kty": "oct", "kid": "other", "alg": "HS512", "k": secret},
            {"kty": "oct", "kid": "seal", "use": "enc", "k": secret},
        ]});
        let keys = set(text.to_string().as_bytes()).expect("one is good");
        assert_eq!(keys.iter().map(|key| key.id.as_deref()).collect::<Vec<_>>(), [Some("old")]);
        let tokens = tokens(rules(), keys);
        let named = |kid: Option<&str>| {
            let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::HS256) };
            encode(&header, &good(), &EncodingKey::from_secret(SECRET)).expect("a token")
        };
        assert!(judged(&tokens, &named(Some("old"))).is_ok());
        assert!(judged(&tokens, &named(None)).is_ok());
        assert!(judged(&tokens, &named(Some("new"))).is_err());
        for broken in
            ["", "{}", "[]", r#"{"keys": []}"#, r#"{"keys": [{"kty": "oct", "k": "AAAA"}]}"#, "{\"keys\": [5]}"]
        {
            assert!(set(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn short_secrets_and_other_files_are_no_keys() {
        assert!(bare(&SECRET[1..], Algorithm::HS256).is_err());
        assert!(bare(&[&SECRET[1..], b"\n"].concat(), Algorithm::HS256).is_err());
        for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
            assert!(bare(b"", algorithm).is_err() && bare(SECRET, algorithm).is_err());
        }
        let (_, public) = pair(Algorithm::ES256);
        assert!(bare(&public, Algorithm::RS256).is_err() && bare(&public, Algorithm::EdDSA).is_err());
    }

    #[test]
    fn passwords_do_not_look_like_tokens() {
        for password in ["", "secret", "a.b.c", "ey.b", "ey a.b.c", "ey.b.c.d", "e.b.ü"] {
            assert!(!looks_like_a_token(password.as_bytes()), "{password}");
        }
    }
}
