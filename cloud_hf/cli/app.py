"""`cloud-hf app`: the demo page in a browser."""

import argparse

from cloud_hf.cli.arguments import add_model

__all__ = ["add_app_parser"]


def add_app_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = commands.add_parser("app", help="the demo page in a browser", description=app.__doc__)
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1, this machine only)"
    )
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default 7860)")
    add_model(parser)
    parser.set_defaults(run=app)


def app(arguments: argparse.Namespace) -> int:
    """Serve a page that shows a crystal, its string, its properties and its heat capacity (needs cloud-hf[app])."""
    from cloud_hf.app.server import serve

    served = serve(arguments.host, arguments.port, arguments.model)
    print(f"The page is at {served.url} (Ctrl-C ends it).", flush=True)
    served.wait()
    return 0
