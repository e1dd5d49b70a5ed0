"""The demo page as a Hugging Face Space; at home `cloud-hf app` starts the same page."""

from cloud_hf.app.server import serve

if __name__ == "__main__":  # the processes that read files import this module again
    serve(host="0.0.0.0", port=7860).wait()  # noqa: S104  (in its container, behind the proxy of the Hub)
