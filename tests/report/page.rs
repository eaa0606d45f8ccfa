//! The HTML page in a real browser, and Graphviz's language. Without a browser the tests say so and pass;
//! `REQUIRE_BROWSER=1` makes that a failure, and `CHROMIUM=PATH` names the browser.

use std::env;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{HOSTILE, classifier, save, stdout};

/// The names of a browser that understands Chromium's options.
const BROWSERS: [&str; 5] =
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];

/// How long a page may take; browsers are slow to start on a machine that does other things.
const LIMIT: Duration = Duration::from_secs(600);

fn browser() -> Option<PathBuf> {
    if let Some(path) = env::var_os("CHROMIUM") {
        return Some(path.into());
    }
    let folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    let candidates = folders.iter().flat_map(|f| BROWSERS.map(|name| f.join(name)));
    let found = candidates.into_iter().find(|path| path.is_file());
    if found.is_none() {
        let message = "no browser found: the HTML report was not opened in one (set CHROMIUM=PATH)";
        assert!(env::var_os("REQUIRE_BROWSER").is_none(), "{message}");
        eprintln!("SKIPPED: {message}");
    }
    found
}

/// The document as the browser has it after it ran the page's scripts.
fn dom(browser: &Path, profile: &Path, url: &str) -> String {
    let mut child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"])
        .args(["--disable-background-networking", "--disable-dev-shm-usage", "--virtual-time-budget=4000"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(["--window-size=1600,1000", "--dump-dom", url])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start {}: {e}", browser.display()));
    let mut pipe = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).map(|_| text)
    });
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > LIMIT {
            child.kill().unwrap();
            panic!("{} did not finish within {LIMIT:?}", browser.display());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    reader.join().unwrap().unwrap()
}

/// What a script that was added to the page found out: it leaves JSON in an element of its own.
fn probe(browser: &Path, dir: &Path, page: &str, fragment: &str, script: &str) -> Value {
    let probe = format!(
        "<script nonce=\"nestjit\">\nconst result = (() => {{ {script} }})();\n\
         const out = document.createElement('pre');\nout.id = 'probe';\n\
         out.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(result))));\n\
         document.body.append(out);\n</script>\n</body>"
    );
    let file = dir.join("probe.html");
    fs::write(&file, page.replacen("</body>", &probe, 1)).unwrap();
    let dom = dom(browser, &dir.join("profile"), &format!("file://{}{fragment}", file.display()));
    let found = dom.split("<pre id=\"probe\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    let encoded = found.unwrap_or_else(|| panic!("the page's scripts failed:\n{dom}"));
    serde_json::from_slice(&base64(encoded)).unwrap()
}

fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |c: u8| ALPHABET.iter().position(|a| *a == c).map(|d| d as u32);
    let digits: Vec<u32> = text.bytes().filter_map(digit).collect();
    let mut bytes = Vec::new();
    for chunk in digits.chunks(4) {
        let word = chunk.iter().enumerate().map(|(i, d)| d << (18 - 6 * i)).sum::<u32>().to_be_bytes();
        bytes.extend_from_slice(&word[1..chunk.len()]);
    }
    bytes
}

fn write_page(model: &str, dir: &Path) -> String {
    let file = dir.join("report.html");
    stdout(&[model, "--html", file.to_str().unwrap()]);
    fs::read_to_string(file).unwrap()
}

#[test]
fn a_click_shows_operations_loop_nest_and_machine_code() {
    let Some(browser) = browser() else { return };
    let dir = tempfile::tempdir().unwrap();
    let page = write_page("mlp10", dir.path());
    let result = probe(
        &browser,
        dir.path(),
        &page,
        "",
        "const text = s => [...document.querySelectorAll(s)].map(e => e.textContent);
         const before = document.querySelectorAll('.selected').length;
         const node = document.querySelector('#after .node[data-group=\"1\"]');
         node.dispatchEvent(new MouseEvent('click', {bubbles: true}));
         const tabs = text('[role=tab]');
         const nest = text('pre')[0];
         const buttons = document.querySelectorAll('[role=tab]');
         buttons[buttons.length - 1].click();
         const code = text('pre')[0];
         const clicked = {ops: text('.ops li'), title: text('#details-title')[0], hash: location.hash,
                          selected: document.querySelectorAll('.selected').length};
         const graph = document.querySelector('svg[data-graph=after]');
         graph.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowDown', bubbles: true}));
         const keyboard = text('#details-title')[0];
         document.getElementById('query').value = 'softmax';
         document.getElementById('search').requestSubmit();
         return {before, tabs, nest, code, clicked, keyboard, found: text('.details h3')[0],
                 boxes: document.querySelectorAll('#before .node').length};",
    );
    assert_eq!(result["before"], 0, "{result}");
    let text = |v: &Value| v.as_str().unwrap_or_else(|| panic!("{result}")).to_owned();
    assert!(text(&result["nest"]).starts_with("nest @"), "{result}");
    assert!(text(&result["code"]).lines().count() > 10 && result["code"] != result["nest"], "{result}");
    assert_eq!(result["tabs"].as_array().unwrap().last().unwrap(), "Machine code");
    let clicked = &result["clicked"];
    assert_eq!(clicked["ops"].as_array().unwrap().len(), 3, "MatMul, BiasAdd, Relu: {result}");
    assert_eq!(clicked["hash"], "#group-1");
    // Three operations before, one nest after.
    assert_eq!(clicked["selected"], 4, "{result}");
    assert!(text(&clicked["title"]).starts_with("Group 2 of "), "{result}");
    assert!(text(&result["keyboard"]).starts_with("Group 3 of "), "{result}");
    assert!(text(&result["found"]).contains("Softmax"), "{result}");
    assert!(result["boxes"].as_u64().unwrap() > 30, "{result}");
}

#[test]
fn a_fragment_selects_a_group() {
    let Some(browser) = browser() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.html");
    stdout(&["mlp10", "--html", file.to_str().unwrap()]);
    let dom = dom(&browser, &dir.path().join("profile"), &format!("file://{}#group-0", file.display()));
    assert!(dom.contains(">Group 1 of "), "{dom}");
}

#[test]
fn hostile_names_run_no_script() {
    let dir = tempfile::tempdir().unwrap();
    let suffix = HOSTILE.concat() + &"x".repeat(3000);
    let model = save(classifier(&suffix), &dir.path().join("m.onnx"));
    let page = write_page(&model, dir.path());
    assert!(!page.contains("<img") && !page.contains("owned'</script>"));
    let Some(browser) = browser() else { return };
    let result = probe(
        &browser,
        dir.path(),
        &page,
        "#group-0",
        "return {title: document.title, images: document.images.length, scripts: document.scripts.length,
                 name: document.querySelector('.ops li span').textContent};",
    );
    assert_ne!(result["title"], "owned");
    assert_eq!((&result["images"], &result["scripts"]), (&0.into(), &3.into()), "{result}");
    assert_eq!(result["name"], format!("conv{suffix}"));
}

#[test]
fn dot_lists_nests_and_edges_and_keeps_hostile_names_in_strings() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m.dot");
    stdout(&["mlp10", "--dot", file.to_str().unwrap()]);
    let dot = fs::read_to_string(&file).unwrap();
    assert!(dot.starts_with("digraph \"mlp10\" {\n") && dot.ends_with("}\n"), "{dot}");
    assert!(dot.contains("MatMul_BiasAdd_Relu\\nMatMul dense/matmul\\n") && dot.contains(" -> "), "{dot}");
    let model = save(classifier(&HOSTILE.concat()), &dir.path().join("m.onnx"));
    stdout(&[&model, "--dot", file.to_str().unwrap()]);
    for line in fs::read_to_string(&file).unwrap().lines() {
        let quotes = line.replace("\\\\", "").replace("\\\"", "").matches('"').count();
        assert!(quotes % 2 == 0 && !line.contains(char::is_control), "{line}");
    }
}
