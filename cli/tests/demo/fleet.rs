//! Generated telemetry: another fleet than the recorded one, with late, doubled and disordered records and, where asked
//! for, every kind of line that is no telemetry.

/// Xorshift64*: the same seed gives the same fleet for ever.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// A number below `below`.
    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % below
    }

    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.roll(times) == 0
    }
}

pub(crate) const START: i64 = 1_700_000_000_000;
const MODELS: [&str; 5] = ["Kombi é", "Van \\\"L\\\"", "Coupé", "Truck", "標準"];

/// Telemetry of `cars` cars over `seconds`, one line a second and car.
pub(crate) fn fleet(seed: u64, cars: u64, seconds: i64) -> Vec<u8> {
    let (mut dice, mut out) = (Dice::new(seed), Vec::new());
    for second in 0..seconds {
        for car in 0..cars {
            let mut ts = START + second * 1000 + i64::try_from(dice.roll(900)).unwrap();
            if dice.once_in(12) {
                ts -= i64::try_from(dice.roll(240_000)).unwrap();
            }
            let line = telemetry(&mut dice, car, ts);
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
            if dice.once_in(50) {
                out.extend_from_slice(line.as_bytes());
                out.push(b'\n');
            }
        }
    }
    out
}

fn telemetry(dice: &mut Dice, car: u64, ts: i64) -> String {
    let model = MODELS[usize::try_from(car).unwrap() % MODELS.len()];
    // Some cars stand, some report whole numbers, some report nothing that they need not.
    let speed = match car % 7 {
        0 => "0.0".to_owned(),
        1 => dice.roll(130).to_string(),
        _ => format!("{}.{:02}", dice.roll(180), dice.roll(100)),
    };
    let (fuel, temperature, tyre) = (dice.roll(3000), 80 + dice.roll(34), 174 + dice.roll(90));
    let mut line = format!(
        r#"{{"vin":"CAR {car:03} é","ts":{ts},"model":"{model}","speed_kmh":{speed},"fuel_mg_s":{fuel}.5,"engine_temp_c":{temperature},"tyre_kpa":{tyre}.25"#
    );
    if !car.is_multiple_of(3) {
        let dtc =
            if dice.once_in(9) { format!(r#""P0{}""#, dice.roll(400)) } else { "null".to_owned() };
        line.push_str(&format!(
            r#","dtc":{dtc},"lat":48.{car},"road":"A{car}","mood":{{"driver":["calm",[]]}}"#
        ));
    }
    line.push('}');
    line
}

/// The same with a bad line of every kind in between, blank lines, carriage returns and no newline at the end.
pub(crate) fn with_bad_lines(seed: u64, fleet: &[u8]) -> Vec<u8> {
    let (mut dice, mut out, mut bad) =
        (Dice::new(seed), Vec::new(), bad_lines().into_iter().cycle());
    let kinds = bad_lines().len();
    let lines: Vec<_> =
        fleet.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let every = (lines.len() / (2 * kinds)).max(1);
    for (number, line) in lines.iter().enumerate() {
        if number % every == 0 {
            out.extend_from_slice(&bad.next().unwrap());
            out.push(b'\n');
        }
        if dice.once_in(40) {
            out.extend_from_slice(
                [&b"\n"[..], b"  \t\n", b"\r\n"][usize::try_from(dice.roll(3)).unwrap()],
            );
        }
        out.extend_from_slice(line);
        out.extend_from_slice(if dice.once_in(10) { b"\r\n" } else { b"\n" });
    }
    out.extend_from_slice(b"{\"vin\":\"cut o");
    out
}

fn bad_lines() -> Vec<Vec<u8>> {
    let ts = START + 1_000_000_000_000;
    let line = |field: &str, value: &str| {
        // A bad line with a good and very late moment must not move time.
        let fields = [
            ("vin", "\"CAR 001 é\""),
            ("model", "\"Truck\""),
            ("ts", &*ts.to_string()),
            ("speed_kmh", "1.0"),
            ("fuel_mg_s", "1.0"),
            ("engine_temp_c", "200"),
            ("tyre_kpa", "10"),
        ]
        .map(|(name, good)| match (name == field, value) {
            (true, "") => String::new(),
            (true, value) => format!("\"{name}\":{value}"),
            (false, _) => format!("\"{name}\":{good}"),
        });
        let fields: Vec<_> = fields.into_iter().filter(|field| !field.is_empty()).collect();
        format!("{{{}}}", fields.join(",")).into_bytes()
    };
    let mut bad: Vec<Vec<u8>> = Vec::new();
    for field in ["vin", "model", "ts", "speed_kmh", "fuel_mg_s", "engine_temp_c", "tyre_kpa"] {
        // Left out, null, and of a wrong type.
        bad.extend(["", "null", "true", "[1]"].map(|value| line(field, value)));
        bad.push(line(field, if matches!(field, "vin" | "model") { "7" } else { "\"7\"" }));
    }
    bad.extend(["-1", "1.5", "1e3", "99999999999999999999"].map(|value| line("ts", value)));
    bad.extend(["1e999", "NaN", "01"].map(|value| line("speed_kmh", value)));
    for extra in [r#""dtc":5"#, r#""lat":"48""#, r#""road":{}"#] {
        let mut good = line("none", "");
        good.pop();
        good.extend_from_slice(format!(",{extra}}}").as_bytes());
        bad.push(good);
    }
    bad.extend(
        [&b"not json"[..], b"[]", b"null", b"{", b"{}", b"\"vin\"", b"{\"vin\":\"CAR\"} trailing"]
            .map(<[u8]>::to_vec),
    );
    bad.push(b"{\"vin\":\"\xff\xfe\",\"ts\":1}".to_vec());
    bad.push(b"\x00\x01\x02".to_vec());
    bad.push(vec![b'['; 200_000]);
    let mut long = line("none", "");
    long.pop();
    long.extend_from_slice(b",\"long\":\"");
    long.resize(20 << 20, b'x');
    long.extend_from_slice(b"\"}");
    bad.push(long);
    bad
}
