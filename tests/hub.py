"""A Hugging Face Hub on localhost, for the real client: repos in memory, LFS, pull requests, tokens and faults.

`serve()` runs a Hub, `connect` points the libraries of this process at it, `environment` those
of another. The token `hf_alice` is alice's; she may write what lies under `alice/`. Not here: Xet, organizations, long
lists in pages, redirects to a CDN, comments.
"""

import base64
import hashlib
import json
import re
import socket
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import datasets
import transformers.utils.hub
import yaml
from huggingface_hub import close_session, constants, file_download, hf_api, hf_file_system
from huggingface_hub.utils import _detect_agent, _http

LFS_SUFFIXES = (".safetensors", ".parquet", ".arrow", ".bin", ".gz", ".npy", ".npz", ".zip")
LFS_SIZE = 10 * 2**20  # larger files go to LFS whatever their name

# Paths as the client sends them: a revision or a folder is one quoted segment (refs%2Fpr%2F1), a file is not.
API = "/api/(?P<kind>model|dataset|space)s/(?P<id>[^/]+/[^/]+)"
PAGE = "/(?:(?P<kind>dataset|space)s/)?(?P<id>[^/]+/[^/]+)"
REV = "/(?P<rev>[^/]+)"
ROUTES = []  # method, path, who may, what to do


@dataclass
class Request:
    """What came in; `status` is what went out, None as long as nothing did."""

    method: str
    path: str
    query: dict
    headers: dict  # a Message, so the case of names does not matter
    body: bytes = field(repr=False)
    status: int | None = None

    @cached_property
    def json(self):
        return json.loads(self.body)

    @property
    def user(self):
        """Who asks: None is nobody; a token nobody has is refused, whatever it asks for."""
        token = self.headers.get("Authorization", "Bearer hf_").removeprefix("Bearer ")
        if not token.startswith("hf_"):
            raise Refused(401, "Invalid credentials in Authorization header")
        return token.removeprefix("hf_") or None


@dataclass
class Answer:
    status: int
    body: bytes = b""
    headers: dict = field(default_factory=dict)


class Refused(Exception):
    """An error as the Hub words it; the client makes its exceptions out of `code`."""

    def __init__(self, status, message, code=None, **headers):
        headers = {"X-Error-Message": message, "X-Error-Code": code} | headers
        body = json.dumps({"error": message}).encode()
        self.answer = Answer(status, body, {name: value for name, value in headers.items() if value})


@dataclass
class Fault:
    method: str
    path: str
    status: int | None
    times: int
    skip: int
    headers: dict
    after: bool

    def hits(self, request):
        """Whether this request is to fail; asking uses the fault up."""
        if not self.times or self.method != request.method or not re.search(self.path, request.path):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


@dataclass(frozen=True)
class File:
    data: bytes
    lfs: bool = False

    @cached_property
    def sha256(self):
        return hashlib.sha256(self.data).hexdigest()

    @property
    def stored(self):
        """What git holds: the file itself, or a pointer to LFS."""
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n"
        return pointer.encode() if self.lfs else self.data

    @cached_property
    def oid(self):
        return hashlib.sha1(b"blob %d\0" % len(self.stored) + self.stored).hexdigest()

    @property
    def etag(self):
        return self.sha256 if self.lfs else self.oid

    def about(self, name="oid"):
        """What lists of files say; `name` is what that list calls the sha256 of an LFS file."""
        lfs = {name: self.sha256, "size": len(self.data), "pointerSize": len(self.stored)}
        return {"size": len(self.data)} | ({"lfs": lfs} if self.lfs else {})


ATTRIBUTES = File("".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode())


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    author: str
    title: str
    message: str
    date: str
    files: dict


class Repo:
    def __init__(self, kind, id, private=False):
        self.kind, self.id, self.private, self.gated = kind, id, private, False
        self.owner = id.split("/")[0]
        self.commits = {}
        self.refs = {}  # refs/heads/main, refs/tags/v1, refs/pr/1 -> a commit's oid
        self.pulls = {}  # refs/pr/1 -> who made it, and from which commit
        self.commit("refs/heads/main", None, {".gitattributes": ATTRIBUTES}, self.owner, "initial commit")

    def commit(self, ref, parent, files, author, title, message=""):
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        what = [self.id, parent, title, date, {path: file.oid for path, file in files.items()}]
        oid = hashlib.sha1(json.dumps(what).encode()).hexdigest()
        self.commits[oid] = Commit(oid, parent, author, title, message, date, dict(sorted(files.items())))
        self.refs[ref] = oid
        return oid

    def seen_by(self, user):
        return not self.private or user == self.owner

    def ref(self, rev):
        """The full name of a branch, tag or pull request; None if there is none."""
        names = (f"refs/heads/{rev}", f"refs/tags/{rev}", rev)
        return next((name for name in names if name in self.refs), None)

    def at(self, rev):
        """The commit that a branch, tag, pull request or the start of an oid stands for."""
        oids = [self.refs.get(self.ref(rev))] + [oid for oid in self.commits if len(rev) > 4 and oid.startswith(rev)]
        if not any(oids):
            raise Refused(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        return self.commits[next(filter(None, oids))]

    def history(self, rev):
        """The commits of `rev`, newest first."""
        commits = [self.at(rev)]
        while commits[-1].parent:
            commits.append(self.commits[commits[-1].parent])
        return commits

    def about(self, rev="main", blobs=False):
        commit, dates = self.at(rev), [commit.date for commit in self.history(rev)]
        card = front_matter(commit.files.get("README.md", File(b"")).data.decode()) or {}
        more = {path: {"blobId": f.oid} | f.about("sha256") if blobs else {} for path, f in commit.files.items()}
        return {
            "id": self.id,
            "author": self.owner,
            "sha": commit.oid,
            "private": self.private,
            "gated": self.gated,
            "lastModified": dates[0],
            "createdAt": dates[-1],
            "tags": card.get("tags") or [],
            "cardData": card,
            "siblings": [{"rfilename": path} | extra for path, extra in more.items()],
        }


def front_matter(text):
    found = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    return yaml.safe_load(found[1]) if found else None


def entries(files):
    """Every file and folder as lists of a tree show them."""
    found = {}
    for path, file in files.items():
        for folder in [str(parent) for parent in Path(path).parents][:-1]:
            oid = hashlib.sha1(folder.encode()).hexdigest()
            found[folder] = {"type": "directory", "path": folder, "oid": oid, "size": 0}
        found[path] = {"type": "file", "path": path, "oid": file.oid} | file.about()
    return dict(sorted(found.items()))


def route(method, path, who="reader"):
    """`who` may ask: anyone, a user with a token, or where there is a repo its reader, downloader or writer."""

    def register(function):
        ROUTES.append((method, re.compile(path), who, function))
        return function

    return register


class Hub:
    """Repos, and what was asked for so far.

    url: where it is; requests: every Request in order; downloads: the files among them that were fetched;
    waits: the seconds a connected client would have slept.
    """

    def __init__(self):
        self.url = None
        self.repos, self.objects = {}, {}  # (kind, id) -> Repo; sha256 -> the bytes of an LFS file
        self.requests, self.downloads, self.waits = [], [], []
        self.faults, self.crashes = [], []
        self.lock = threading.RLock()  # one request at a time

    # What tests say and ask

    def fail(self, method, path, status=None, *, times=1, skip=0, headers=None, after=False):
        """Answer requests with `status`; without a status, close the connection instead.

        The regular expression `path` is to be found in a request's path; `skip` such requests go well, the next
        `times` fail. With `after` the request is carried out first, so that only its answer is lost; where the
        connection closes, half of the answer arrives.
        """
        self.faults.append(Fault(method, path, status, times, skip, headers or {}, after))

    def commits(self, id, kind="model", rev="main"):
        """The commits of a repo, newest first: oid, parent, author, title, message, date, files."""
        return self.repos[kind, id].history(rev)

    def files(self, id, kind="model", rev="main"):
        """The content of a repo, path -> bytes, without the .gitattributes that every repo is made with."""
        files = self.repos[kind, id].at(rev).files
        return {path: file.data for path, file in files.items() if path != ".gitattributes"}

    def push(self, id, files, kind="model", private=False):
        """Put files (path -> bytes or str) into a repo, new or not, without the client; return the commit's oid."""
        repo = self.repos.setdefault((kind, id), Repo(kind, id, private))
        files = {path: data if isinstance(data, bytes) else data.encode() for path, data in files.items()}
        new = {path: File(data, is_lfs(path, len(data))) for path, data in files.items()}
        self.objects |= {file.sha256: file.data for file in new.values() if file.lfs}
        head = repo.at("main")
        return repo.commit("refs/heads/main", head.oid, head.files | new, repo.owner, "push")

    def page(self, kind, id):
        return f"{self.url}/{'' if kind == 'model' else kind + 's/'}{id}"

    # How requests are answered

    def answer(self, request, raw):
        """Return an Answer or None, and whether the connection survives it."""
        with self.lock:
            self.requests.append(request)
            fault = next((fault for fault in self.faults if fault.hits(request)), None)
            answer = self.carry_out(request, raw) if fault is None or fault.after else None
            if fault and fault.status:
                return Refused(fault.status, "As the test asked", **fault.headers).answer, True
            return answer, fault is None

    def carry_out(self, request, raw):
        try:
            for method, path, who, function in ROUTES:
                if method == request.method.replace("HEAD", "GET") and (found := path.fullmatch(raw)):
                    given = {name: unquote(value) if value else value for name, value in found.groupdict().items()}
                    answer = function(self, request, **self.admit(request, who, given))
                    return answer if isinstance(answer, Answer) else Answer(200, json.dumps(answer).encode())
            raise Refused(404, "Sorry, we can't find the page you are looking for.")
        except Refused as refused:
            return refused.answer
        except Exception as error:  # a mistake in this file or in a test: serve() raises it at the end
            self.crashes.append(error)
            return Refused(500, repr(error)).answer

    def admit(self, request, who, given):
        """Find the repo, see whether the user may; a private repo does not exist for anyone else."""
        user = request.user
        if "id" not in given:
            if who == "user" and not user:
                raise Refused(401, "Invalid username or password.")
            return given
        kind, id = given.pop("kind") or "model", given.pop("id")
        repo = self.repos.get((kind, id))
        if repo is None or not repo.seen_by(user):
            # the real Hub sends no code with 401; the client then goes by the URL, but only if that is https
            raise Refused(404 if user else 401, "Repository not found", "RepoNotFound")
        if who == "downloader" and repo.gated and user != repo.owner:
            raise Refused(403 if user else 401, f"Access to {kind} {id} is restricted.", "GatedRepo")
        if who == "writer" and not user:
            raise Refused(401, "Invalid username or password.")
        if who == "writer" and "create_pr" not in request.query:
            self.admit_writer(repo, user, given.get("rev"))
        return given | {"repo": repo}

    def admit_writer(self, repo, user, rev):
        """A repo's owner may write, and who made a pull request may add to it."""
        if user not in (repo.owner, repo.pulls.get(rev, (None,))[0]):
            raise Refused(403, f"You don't have the rights to write to {repo.id}")


def is_lfs(path, size):
    return path.endswith(LFS_SUFFIXES) or size > LFS_SIZE


# Users and repos


@route("GET", "/api/whoami-v2", "user")
def whoami(hub, request):
    return {"type": "user", "name": request.user, "orgs": []}


@route("POST", "/api/repos/create", "user")
def create(hub, request):
    kind, owner = request.json.get("type") or "model", request.json.get("organization") or request.user
    id = f"{owner}/{request.json['name']}"
    url = hub.page(kind, id)
    if owner != request.user:
        raise Refused(403, f'You don\'t have the rights to create a {kind} under the namespace "{owner}"')
    if (kind, id) in hub.repos:
        return Answer(409, json.dumps({"error": f"You already created this {kind} repo", "url": url}).encode())
    hub.repos[kind, id] = Repo(kind, id, request.json.get("visibility") == "private")
    return {"url": url, "name": id}


@route("DELETE", "/api/repos/delete", "user")
def delete(hub, request):
    kind, owner = request.json.get("type") or "model", request.json.get("organization") or request.user
    repo = hub.admit(request, "writer", {"kind": kind, "id": f"{owner}/{request.json['name']}"})["repo"]
    del hub.repos[repo.kind, repo.id]
    return {}


@route("PUT", API + "/settings", "writer")
def settings(hub, request, repo):
    repo.private = request.json.get("visibility", "private" if repo.private else "public") == "private"
    repo.gated = request.json.get("gated", repo.gated)
    return {"private": repo.private, "gated": repo.gated}


@route("GET", API + "/auth-check", "downloader")
@route("GET", API + "/auth-check/write", "writer")
def auth_check(hub, request, repo):
    return {}


@route("GET", "/api/(?P<kind>model|dataset|space)s")
def search(hub, request, kind):
    repos = [repo for repo in hub.repos.values() if repo.kind == kind and repo.seen_by(request.user)]
    found = [repo.about() for repo in repos if repo.owner in request.query.get("author", [repo.owner])]
    return [about for about in found if set(request.query.get("filter", [])) <= set(about["tags"])]


@route("GET", API)
@route("GET", API + "/revision" + REV)
def info(hub, request, repo, rev="main"):
    return repo.about(rev, blobs="blobs" in request.query)


@route("POST", "/api/validate-yaml")
def validate(hub, request):
    try:
        card = front_matter(request.json["content"])
    except yaml.YAMLError as error:
        return Answer(400, json.dumps({"errors": [{"message": str(error)}], "warnings": []}).encode())
    return {"errors": [], "warnings": [] if card else [{"message": "empty or missing yaml metadata in repo card"}]}


# Files


@route("GET", API + "/tree" + REV)
@route("GET", API + "/tree" + REV + "/(?P<path>.+)")
def tree(hub, request, repo, rev, path=""):
    found, folder = entries(repo.at(rev).files), path + "/" if path else ""
    if path and found.get(path, {}).get("type") != "directory":
        raise Refused(404, f"{path} does not exist on {rev}", "EntryNotFound")
    below = {name[len(folder) :]: entry for name, entry in found.items() if name.startswith(folder)}
    deep = request.query.get("recursive", ["false"])[0].lower() == "true"
    return [entry for name, entry in below.items() if deep or "/" not in name]


@route("POST", API + "/paths-info" + REV)
def paths_info(hub, request, repo, rev):
    found = entries(repo.at(rev).files)
    return [found[path] for path in parse_qs(request.body.decode())["paths"] if path in found]


@route("GET", PAGE + "/resolve" + REV + "/(?P<path>.+)", "downloader")
def resolve(hub, request, repo, rev, path):
    commit = repo.at(rev)
    if path not in commit.files:
        raise Refused(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": commit.oid})
    if request.method == "GET":
        hub.downloads.append(path)
    file = commit.files[path]
    headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
    if file.lfs:
        headers |= {"X-Linked-Size": str(len(file.data)), "X-Linked-ETag": f'"{file.etag}"'}
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
    return part(file.data, *asked.groups(), headers) if asked else Answer(200, file.data, headers)


def part(data, first, last, headers):
    """The bytes `first` to `last`, from `first` on, or the `last` last ones."""
    start = int(first) if first else max(0, len(data) - int(last))
    stop = min(len(data), int(last) + 1) if first and last else len(data)
    if start >= stop:
        return Answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
    return Answer(206, data[start:stop], headers | {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"})


# Commits


@route("POST", API + "/preupload" + REV, "writer")
def preupload(hub, request, repo, rev):
    files, present = request.json["files"], repo.at(rev).files
    modes = {file["path"]: "lfs" if is_lfs(file["path"], file["size"]) else "regular" for file in files}
    oids = {path: present[path].etag if path in present else None for path in modes}
    return {"files": [{"path": p, "uploadMode": modes[p], "shouldIgnore": False, "oid": oids[p]} for p in modes]}


@route("POST", PAGE + r"\.git/info/lfs/objects/batch", "reader")
def lfs_batch(hub, request, repo):
    if "ref" in request.json:  # a new pull request has none yet, and anyone may make one
        hub.admit_writer(repo, request.user, request.json["ref"]["name"])
    missing = [one for one in request.json["objects"] if one["oid"] not in hub.objects]
    for one in missing:
        put = f"{hub.url}/lfs/{one['oid']}"
        one["actions"] = {"upload": {"href": put}, "verify": {"href": f"{put}/verify"}}
    return {"transfer": "basic", "objects": request.json["objects"]}


@route("PUT", "/lfs/(?P<oid>[0-9a-f]{64})")
def lfs_put(hub, request, oid):
    if hashlib.sha256(request.body).hexdigest() != oid:
        raise Refused(400, "The content is not what its sha256 says")
    hub.objects[oid] = request.body
    return {}


@route("POST", "/lfs/(?P<oid>[0-9a-f]{64})/verify", "user")
def lfs_verify(hub, request, oid):
    if len(hub.objects.get(oid, b"")) != request.json["size"]:
        raise Refused(404, "The object was not uploaded, or not all of it")
    return {}


@route("POST", API + "/commit" + REV, "writer")
def commit(hub, request, repo, rev):
    header, *changes = [json.loads(line) for line in request.body.splitlines()]
    message, new_pull = header["value"], "create_pr" in request.query
    ref, head, parent = repo.ref(rev), repo.at(rev), repo.at(message.get("parentCommit") or rev)
    if ref is None or ref.startswith("refs/tags/"):
        raise Refused(404, f"Not a branch: {rev}", "RevisionNotFound")
    if parent != head and not new_pull:
        raise Refused(412, "A commit has happened since. Please refresh and try again.")
    files = dict(parent.files)
    for change in changes:
        CHANGES[change["key"]](hub, files, **change["value"])
    ref = open_pull(repo, request.user, parent) if new_pull else ref
    oid = repo.commit(ref, parent.oid, files, request.user, message["summary"], message["description"])
    page = hub.page(repo.kind, repo.id)
    pull = {"pullRequestUrl": f"{page}/discussions/{ref.split('/')[-1]}"} if new_pull else {}
    return {"success": True, "commitOid": oid, "commitUrl": f"{page}/commit/{oid}"} | pull


def add_file(hub, files, path, content, encoding):
    files[path] = File(base64.b64decode(content))


def add_lfs_file(hub, files, path, oid, algo, size=None):
    if oid not in hub.objects:
        raise Refused(400, f"Your push was rejected: the LFS object of {path} was not uploaded")
    files[path] = File(hub.objects[oid], lfs=True)


def delete_file(hub, files, path):
    if files.pop(path, None) is None:
        raise Refused(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")


def delete_folder(hub, files, path):
    below = [name for name in files if name.startswith(path.rstrip("/") + "/")]
    if not below:
        raise Refused(404, f"A folder with this name doesn't exist: {path}", "EntryNotFound")
    for name in below:
        del files[name]


CHANGES = {"file": add_file, "lfsFile": add_lfs_file, "deletedFile": delete_file, "deletedFolder": delete_folder}


# Revisions


@route("GET", API + "/commits" + REV)
def commits(hub, request, repo, rev):
    return [
        {"id": c.oid, "authors": [{"user": c.author}], "date": c.date, "title": c.title, "message": c.message}
        for c in repo.history(rev)
    ]


@route("GET", API + "/refs")
def refs(hub, request, repo):
    groups = {"branches": "refs/heads/", "tags": "refs/tags/", "converts": "refs/convert/", "pullRequests": "refs/pr/"}

    def below(start):
        names = [ref for ref in repo.refs if ref.startswith(start)]
        return [{"name": ref.removeprefix(start), "ref": ref, "targetCommit": repo.refs[ref]} for ref in names]

    return {group: below(start) for group, start in groups.items()}


@route("POST", API + "/(?P<what>branch|tag)/(?P<name>[^/]+)", "writer")
def add_ref(hub, request, repo, what, name):
    """Make a branch called `name`, or a tag at the revision `name`."""
    tag = request.json["tag"] if what == "tag" else None
    ref = f"refs/tags/{tag}" if tag else f"refs/heads/{name}"
    if ref in repo.refs:
        raise Refused(409, f"Reference already exists: {ref}")
    repo.refs[ref] = repo.at(name if tag else request.json.get("startingPoint", "main")).oid
    return {}


@route("DELETE", API + "/(?P<what>branch|tag)/(?P<name>[^/]+)", "writer")
def remove_ref(hub, request, repo, what, name):
    if repo.refs.pop({"branch": "refs/heads/", "tag": "refs/tags/"}[what] + name, None) is None:
        raise Refused(404, f"No such {what}: {name}", "RevisionNotFound")
    return {}


def open_pull(repo, user, base):
    ref = f"refs/pr/{len(repo.pulls) + 1}"
    repo.pulls[ref] = (user, base)
    repo.refs[ref] = base.oid
    return ref


@route("POST", API + "/discussions/(?P<number>[0-9]+)/merge", "writer")
def merge(hub, request, repo, number):
    """Repeat on main what the pull request did to the commit it was made from."""
    base, pull, main = repo.pulls[f"refs/pr/{number}"][1].files, repo.at(f"refs/pr/{number}").files, repo.at("main")
    kept = {path: file for path, file in main.files.items() if path in pull or path not in base}
    changed = {path: file for path, file in pull.items() if base.get(path) != file}
    return {"oid": repo.commit("refs/heads/main", main.oid, kept | changed, request.user, f"Merge PR {number}")}


# The server


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet per answer: small ones wait 40 ms for each other
    disable_nagle_algorithm = True

    def handle_request(self):
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, unquote(url.path), parse_qs(url.query), self.headers, body)
        answer, whole = self.server.hub.answer(request, url.path)
        self.close_connection = self.close_connection or not whole
        if answer:
            request.status = answer.status
            self.send(answer, whole)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request

    def send(self, answer, whole):
        self.send_response(answer.status)
        for name, value in ({"Content-Type": "application/json"} | answer.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body if whole else answer.body[: len(answer.body) // 2])

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for every thread
    request_queue_size = 64

    def __init__(self, hub):
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub, self.connections = hub, set()

    def process_request(self, connection, address):
        self.connections.add(connection)
        super().process_request(connection, address)

    def shutdown_request(self, connection):
        self.connections.discard(connection)
        super().shutdown_request(connection)

    def handle_error(self, connection, address):
        if not isinstance(sys.exception(), ConnectionError):  # a client may hang up
            self.hub.crashes.append(sys.exception())


@contextmanager
def serve():
    """Run a Hub until the block ends; a mistake in answering fails the test then."""
    hub = Hub()
    server = Server(hub)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        for connection in list(server.connections):  # clients keep them open for more
            with suppress(OSError):  # gone meanwhile
                connection.shutdown(socket.SHUT_RDWR)
        server.server_close()
        thread.join()
    if hub.crashes:
        raise hub.crashes[0]


# The client


class Clock:
    """The time module for clients that retry: sleeping takes no time, but is written down."""

    def __init__(self, waits):
        self.sleep = waits.append

    def __getattr__(self, name):
        return getattr(time, name)


def environment(hub, home):
    """Environment variables for another process, to be added to those of this one."""
    values = {"HF_ENDPOINT": hub.url, "HF_HOME": home, "HF_HUB_OFFLINE": 0, "HF_HUB_DISABLE_XET": 1}
    return {name: str(value) for name, value in (values | {"HF_HUB_DISABLE_TELEMETRY": 1}).items()}


@contextmanager
def connect(hub, home, monkeypatch):
    """Point huggingface_hub, datasets and transformers at `hub`, with nobody logged in and `home` as their cache.

    The libraries read their settings when they are imported, so setting the environment is too late here.
    """
    settings = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_ASSETS_CACHE": str(home / "assets"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    for api in (hf_api.api, hf_file_system.hffs, hf_file_system.hffs._api):  # made at import
        monkeypatch.setattr(api, "endpoint", hub.url)
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)  # made when it is first used, and kept
    monkeypatch.setattr(_detect_agent, "_registry", _detect_agent._EMPTY_REGISTRY)  # or the client asks for it once
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(datasets.config, "HUB_DATASETS_URL", hub.url + "/datasets/{repo_id}/resolve/{revision}/{path}")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    for module in (_http, file_download, datasets.arrow_dataset, datasets.dataset_dict, datasets.utils.file_utils):
        monkeypatch.setattr(module, "time", Clock(hub.waits))
    close_session()
    try:
        yield
    finally:
        close_session()
        hf_file_system.HfFileSystem.clear_instance_cache()
        hf_file_system.hffs.invalidate_cache()


def go_offline(monkeypatch):
    """Cut the connection again, as HF_HUB_OFFLINE=1 does."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
