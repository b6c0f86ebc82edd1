"""Plots as SVG text: small, the same bytes every time, and shown by every git host."""

CELL = 30
EDGE = 40


def confusion(counts):
    """A confusion matrix: one row per true digit, one column per predicted digit."""
    size = len(counts)
    side = EDGE + size * CELL + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" width="{side}" height="{side}" '
        'font-family="sans-serif" font-size="12" text-anchor="middle">',
        f'<rect width="{side}" height="{side}" fill="white"/>',
        f'<text x="{EDGE + size * CELL / 2}" y="14">predicted</text>',
        f'<text transform="translate(12 {EDGE + size * CELL / 2}) rotate(-90)">true</text>',
    ]
    for row in range(size):
        middle = EDGE + row * CELL + CELL / 2
        parts.append(f'<text x="{middle}" y="32">{row}</text>')
        parts.append(f'<text x="28" y="{middle + 4}">{row}</text>')
        total = max(int(sum(counts[row])), 1)
        for column in range(size):
            count = int(counts[row][column])
            x, y = EDGE + column * CELL, EDGE + row * CELL
            colour = "31,119,180" if row == column else "214,39,40"
            parts.append(
                f'<rect x="{x}" y="{y}" width="{CELL - 1}" height="{CELL - 1}" fill="rgb({colour})" '
                f'fill-opacity="{count / total:.3f}" stroke="#ddd"/>'
            )
            if count:
                parts.append(f'<text x="{x + CELL / 2}" y="{y + CELL / 2 + 4}">{count}</text>')
    parts.append("</svg>")
    return "\n".join(parts) + "\n"
