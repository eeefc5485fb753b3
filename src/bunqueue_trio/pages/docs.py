"""The page that shows the OpenAPI description: Swagger UI, from an installed package; no other host is asked."""

import functools
from importlib.util import find_spec
from pathlib import Path

from bunqueue_trio.runtime.statistics import Page, Reporter

_HTML = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:">
<title>bunqueue-trio HTTP API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="page"><noscript>This page needs JavaScript; <a href="openapi.json">openapi.json</a> is what it shows.</noscript></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

_START = b"""SwaggerUIBundle({
  url: "openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null, displayRequestDuration: true,
  defaultModelsExpandDepth: 0, tryItOutEnabled: true,
});
"""


@functools.cache
def _file(name: str) -> bytes:
    # The package itself is never imported: it brings Flask, for nothing, and right after a start a thread may be reading that.
    # Of two threads that read modules which need each other one fails.
    package = find_spec("flask_swagger_ui")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).with_name("dist").joinpath(name).read_bytes()


def docs(server: Reporter) -> Page:
    """Return the page."""
    return "text/html; charset=utf-8", _HTML, 200


def docs_style(server: Reporter) -> Page:
    """Return Swagger UI's style sheet."""
    return "text/css; charset=utf-8", _file("swagger-ui.css"), 200


def docs_bundle(server: Reporter) -> Page:
    """Return Swagger UI."""
    return "text/javascript; charset=utf-8", _file("swagger-ui-bundle.js"), 200


def docs_start(server: Reporter) -> Page:
    """Return the lines that start it; a script within the page would need a weaker policy."""
    return "text/javascript; charset=utf-8", _START, 200
