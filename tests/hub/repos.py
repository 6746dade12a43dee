"""What a Hub holds: repos of commits of files, and who may see and write them."""

import hashlib
import json
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

import yaml

LFS_SUFFIXES = (".safetensors", ".parquet", ".arrow", ".bin", ".gz", ".npy", ".npz", ".zip")

# Paths as the client sends them: a revision or a folder is one quoted segment (refs%2Fpr%2F1), a file is not.
API = "/api/(?P<kind>model|dataset)s/(?P<id>[^/]+/[^/]+)"
PAGE = "/(?:(?P<kind>dataset)s/)?(?P<id>[^/]+/[^/]+)"
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
    method: str | None
    path: str
    status: int | None
    times: int
    skip: int
    after: bool
    alter: Callable | None

    def hits(self, request):
        """Whether this request is to fail; asking uses the fault up."""
        if not self.times or self.method not in (None, request.method) or not re.search(self.path, request.path):
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

    @cached_property
    def oid(self):
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    @property
    def etag(self):
        return self.sha256 if self.lfs else self.oid


ATTRIBUTES = File("".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode())


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    author: str
    title: str
    message: str
    files: dict


class Repo:
    def __init__(self, kind, id, private=False):
        self.kind, self.id, self.private, self.gated = kind, id, private, False
        self.owner = id.split("/")[0]
        self.commits = {}
        self.refs = {}  # refs/heads/main, refs/tags/v1, refs/pr/1 -> a commit's oid
        self.commit("refs/heads/main", None, {".gitattributes": ATTRIBUTES}, self.owner, "initial commit")

    def commit(self, ref, parent, files, author, title, message=""):
        what = [self.id, len(self.commits), {path: file.oid for path, file in files.items()}]
        oid = hashlib.sha1(json.dumps(what).encode()).hexdigest()
        self.commits[oid] = Commit(oid, parent, author, title, message, dict(sorted(files.items())))
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

    def about(self, rev="main"):
        commit, card = self.at(rev), {}
        with suppress(yaml.YAMLError):  # the Hub takes such a card, and has then no data of it
            card = front_matter(commit.files.get("README.md", File(b"")).data.decode()) or {}
        return {
            "id": self.id,
            "author": self.owner,
            "sha": commit.oid,
            "lastModified": f"2026-05-01T00:00:{len(self.history(rev)) % 60:02}.000Z",
            "private": self.private,
            "gated": self.gated,
            "tags": card.get("tags") or [],
            "cardData": card,
            "siblings": [{"rfilename": path} for path in commit.files],
        }


def front_matter(text):
    block = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    return yaml.safe_load(block[1]) if block else None


def entries(files):
    """Every file and folder as lists of a tree show them."""
    listed = {}
    for path, file in files.items():
        for folder in [str(parent) for parent in Path(path).parents][:-1]:
            oid = hashlib.sha1(folder.encode()).hexdigest()
            listed[folder] = {"type": "directory", "path": folder, "oid": oid, "size": 0}
        listed[path] = {"type": "file", "path": path, "oid": file.oid, "size": len(file.data)}
        if file.lfs:
            listed[path]["lfs"] = {"oid": file.sha256, "size": len(file.data), "pointerSize": 0}
    return dict(sorted(listed.items()))


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

    def fail(self, method, path, status=None, *, times=1, skip=0, after=False, alter=None):
        """Answer requests with `status`; without a status, close the connection instead.

        A method of None is any. `alter` is a function from the answer, None unless `after`, to the one that is sent.

        The regular expression `path` is to be found in a request's path; `skip` such requests go well, the next
        `times` fail. With `after` the request is carried out first, so that only its answer is lost; where the
        connection closes, half of the answer arrives.
        """
        self.faults.append(Fault(method, path, status, times, skip, after, alter))

    def commits(self, id, kind="model", rev="main"):
        """The commits of a repo, newest first: oid, parent, author, title, message, files."""
        return self.repos[kind, id].history(rev)

    def files(self, id, kind="model", rev="main"):
        """The content of a repo, path -> bytes, without the .gitattributes that every repo is made with."""
        files = self.repos[kind, id].at(rev).files
        return {path: file.data for path, file in files.items() if path != ".gitattributes"}

    def push(self, id, files, kind="model", private=False):
        """Put files (path -> bytes or str) into a repo, new or not, without the client; return the commit's oid."""
        repo = self.repos.setdefault((kind, id), Repo(kind, id, private))
        files = {path: data if isinstance(data, bytes) else data.encode() for path, data in files.items()}
        new = {path: File(data, lfs=path.endswith(LFS_SUFFIXES)) for path, data in files.items()}
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
            if fault and fault.alter:
                return fault.alter(answer), True
            if fault and fault.status:
                return Refused(fault.status, "As the test asked").answer, True
            return answer, fault is None

    def carry_out(self, request, raw):
        try:
            for method, path, who, function in ROUTES:
                if method == request.method.replace("HEAD", "GET") and (match := path.fullmatch(raw)):
                    parts = {name: unquote(value) if value else value for name, value in match.groupdict().items()}
                    answer = function(self, request, **self.admit(request, who, parts))
                    return answer if isinstance(answer, Answer) else Answer(200, json.dumps(answer).encode())
            raise Refused(404, "Sorry, we can't find the page you are looking for.")
        except Refused as refused:
            return refused.answer
        except Exception as error:  # a mistake in this file or in a test: serve() raises it at the end
            self.crashes.append(error)
            return Refused(500, repr(error)).answer

    def admit(self, request, who, parts):
        """Find the repo, see whether the user may; a private repo does not exist for anyone else."""
        user = request.user
        if "id" not in parts:
            if who == "user" and not user:
                raise Refused(401, "Invalid username or password.")
            return parts
        kind, id = parts.pop("kind") or "model", parts.pop("id")
        repo = self.repos.get((kind, id))
        if repo is None or not repo.seen_by(user):
            # the real Hub sends no code with 401; the client then goes by the URL, but only if that is https
            raise Refused(404 if user else 401, "Repository not found", "RepoNotFound")
        if who == "downloader" and repo.gated and user != repo.owner:
            raise Refused(403 if user else 401, f"Access to {kind} {id} is restricted.", "GatedRepo")
        if who == "writer" and not user:
            raise Refused(401, "Invalid username or password.")
        if who == "writer" and user != repo.owner and "create_pr" not in request.query:
            raise Refused(403, f"You don't have the rights to write to {repo.id}")
        return parts | {"repo": repo}
