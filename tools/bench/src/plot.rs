//! A bar for each subject, as an SVG that reads in light and in dark.

/// One bar: its name, its value, and a value that a thin line ends at.
pub(crate) struct Bar<'a> {
    pub(crate) name: &'a str,
    pub(crate) ours: bool,
    pub(crate) value: f64,
    pub(crate) upper: Option<f64>,
}

const WIDTH: f64 = 640.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 90.0;
const ROW: f64 = 26.0;
const TOP: f64 = 34.0;

/// Bars from zero, the longest as wide as there is room.
pub(crate) fn bars(title: &str, unit: &str, bars: &[Bar<'_>]) -> String {
    let height = TOP + ROW * bars.len() as f64 + 6.0;
    let longest = bars.iter().map(|bar| bar.upper.unwrap_or(bar.value)).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / longest;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">
<style>text{{fill:#24292f}}@media(prefers-color-scheme:dark){{text{{fill:#e6edf3}}}}</style>
<text x="0" y="18" font-weight="bold">{title}</text>
"##
    );
    for (position, bar) in bars.iter().enumerate() {
        let y = TOP + ROW * position as f64;
        let (middle, width) = (y + 10.0, bar.value * scale);
        let colour = if bar.ours { "#1a7f37" } else { "#8c959f" };
        let end = bar.upper.map_or(width, |upper| upper * scale);
        svg += &format!(
            r#"<text x="{text:.0}" y="{base:.0}" text-anchor="end">{name}</text>
<rect x="{LEFT}" y="{y:.0}" width="{width:.1}" height="20" fill="{colour}"/>
<line x1="{from:.1}" x2="{to:.1}" y1="{middle:.0}" y2="{middle:.0}" stroke="{colour}"/>
<text x="{after:.1}" y="{base:.0}">{value} {unit}</text>
"#,
            text = LEFT - 8.0,
            base = y + 15.0,
            name = bar.name,
            from = LEFT + width,
            to = LEFT + end,
            after = LEFT + end + 6.0,
            value = crate::report::significant(bar.value),
        );
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_line_stays_inside_the_picture() {
        let bar = |value, upper| Bar { name: "x", ours: false, value, upper };
        let svg = bars("t", "ms", &[bar(1.0, Some(4.0)), bar(2.0, None)]);
        assert!(svg.contains(r#"x2="550.0""#), "{svg}");
        assert!(svg.contains(r#"width="200.0""#), "{svg}");
    }
}
