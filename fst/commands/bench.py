"""`fst bench`: how fast the networks are on this machine."""

import argparse
import json
import math

from fst.commands import flags
from fst.files import expand_user


def add(commands: flags.Commands) -> None:
    bench = commands.add_parser("bench", help="how fast the networks are on this machine")
    sizes = "256x256,512x512,1280x720,1920x1080"
    bench.add_argument("--sizes", default=sizes, help=f"in pixels; default {sizes}")
    bench.add_argument("--networks", type=lambda text: text.split(","), help="of conf/model (default: all), or styles")
    bench.add_argument(
        "--backends",
        type=lambda text: text.split(","),
        help="torch,compile,openvino,onnxruntime; default: all but compile",
    )
    bench.add_argument("--rounds", type=flags.whole, default=5, help="times each is measured; default 5")
    flags.add_device(bench)
    bench.add_argument("--json", type=expand_user, help="write the figures there")
    bench.add_argument("--force", action="store_true", help="overwrite an existing file of figures")
    bench.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from fst.files import check_writable, write_atomically
    from fst.study.bench_check import check_bench, parse_sizes

    sizes = parse_sizes(options.sizes)
    check_bench(options.networks, options.backends, options.rounds)
    if options.json:
        check_writable(options.json, options.force)

    from fst.study.bench import bench, format_rows

    result = bench(options.networks, options.backends, sizes, options.rounds, options.device)
    print(f"{result['machine']}\n{format_rows(result['rows'])}")
    if options.json:
        # JSON knows no infinity, the PSNR of equal pictures.
        rows = [{key: None if value == math.inf else value for key, value in row.items()} for row in result["rows"]]
        write_atomically(options.json, json.dumps(result | {"rows": rows}, indent=2, allow_nan=False).encode())
    return 0
