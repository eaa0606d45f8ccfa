//! Escaping: whatever a model's names are made of, they stay text.

/// Text for HTML and SVG, inside elements and inside attributes with either kind of quotes.
pub(super) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Not allowed in HTML, and of no use to a reader.
            c if c.is_control() && c != '\n' && c != '\t' => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// JSON for the inside of a `script` element: nothing in it can end the element, start a comment, or end a line
/// of JavaScript. All of these characters occur within strings only.
pub(super) fn script(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// A string in double quotes for Graphviz's language, in which backslashes start escapes.
pub(super) fn dot(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_text() {
        assert_eq!(html("<a b=\"c\" d='e'>&"), "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;");
        assert_eq!(html("a\u{0}\u{1b}b\n"), "a\\u{0}\\u{1b}b\n");
    }

    #[test]
    fn json_cannot_end_its_element_and_stays_the_same_value() {
        let value = serde_json::json!({"</script>": "<!-- & \u{2028} \" \\ -->"});
        let text = script(&value.to_string());
        assert!(!text.contains(['<', '>', '&', '\u{2028}']), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn quotes_and_backslashes_stay_in_the_string() {
        assert_eq!(dot("a\"b\\"), r#""a\"b\\""#);
    }
}
