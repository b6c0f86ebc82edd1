"""Plots as SVG text: small, the same bytes every time, and shown by every git host."""

SIDE = 300
EDGE = 40


def scatter(truth, guess):
    """Predicted against true values; on the diagonal they agree."""
    top = max(max(truth), max(guess), 1.0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE + 2 * EDGE} {SIDE + 2 * EDGE}" '
        f'width="{SIDE + 2 * EDGE}" height="{SIDE + 2 * EDGE}" font-family="sans-serif" font-size="12">',
        f'<rect width="{SIDE + 2 * EDGE}" height="{SIDE + 2 * EDGE}" fill="white"/>',
        f'<rect x="{EDGE}" y="{EDGE}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#ddd"/>',
        f'<line x1="{EDGE}" y1="{EDGE + SIDE}" x2="{EDGE + SIDE}" y2="{EDGE}" stroke="#ddd"/>',
        f'<text x="{EDGE + SIDE / 2}" y="{SIDE + 2 * EDGE - 14}" text-anchor="middle">true (0 to {top:.0f})</text>',
        f'<text transform="translate(26 {EDGE + SIDE / 2}) rotate(-90)" text-anchor="middle">predicted</text>',
    ]
    for x, y in zip(truth, guess, strict=True):
        parts.append(
            f'<circle cx="{EDGE + SIDE * x / top:.1f}" cy="{EDGE + SIDE * (1 - max(y, 0) / top):.1f}" r="3" '
            'fill="rgb(31,119,180)" fill-opacity="0.6"/>'
        )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"
