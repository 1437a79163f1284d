"""One figure a family: each case's speed as a share of the roof that bounds it, ours beside the peers'."""

import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def draw(result, folder):
    os.makedirs(folder, exist_ok=True)
    for family in dict.fromkeys(row["family"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["family"] == family and "share" in row]
        if rows:
            _figure(family, rows, result, os.path.join(folder, f"{family}.png"))


def _figure(family, rows, result, path):
    peers = list(dict.fromkeys(peer for row in rows for peer in row["times"]))
    height = 0.8 / len(peers)
    figure, axes = plt.subplots(figsize=(9, 1 + 0.45 * len(rows)), layout="constrained")
    for i, peer in enumerate(peers):
        shown = [(y, row) for y, row in enumerate(rows) if peer in row["times"]]
        # shares scale with speed: ours times our time over the peer's
        shares = [row["share"] * row["times"]["invar"]["median"] / row["times"][peer]["median"] for _, row in shown]
        axes.barh([y + i * height for y, _ in shown], shares, height, label=peer)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks([y + 0.4 - height / 2 for y in range(len(rows))], [row["case"] for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("share of the roof (black line)")
    axes.set_title(f"{family}: {result['info'].get('processor', result['machine'])}, {result['threads']} threads")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
