"""`fst web`: a page that stylizes in the browser."""

import argparse

from fst.commands.flags import Commands
from fst.files import expand_user


def add(commands: Commands) -> None:
    web = commands.add_parser("web", help="a page that stylizes photos, videos and the camera in your browser")
    web.add_argument("styles", nargs="*", metavar="STYLE", help="a name, or a style file; default: the bundled ones")
    web.add_argument("--runtime", type=expand_user, help="a copy of onnxruntime-web from npm; default: from a CDN")
    web.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from fst.inference.web.folder import find_web_styles
    from fst.inference.web.runtime import read_runtime
    from fst.style_info import bundled_styles

    smallest_first = sorted(bundled_styles(), key=lambda path: path.stat().st_size)  # they are the fastest
    styles = find_web_styles(options.styles or smallest_first)
    runtime = read_runtime(options.runtime) if options.runtime else {}

    from fst.inference.web.server import serve_site
    from fst.inference.web.site import build_site

    try:
        serve_site(build_site(styles, runtime), is_local=bool(runtime))
    except KeyboardInterrupt:
        print()
    return 0
