"""What the Hub answers, route by route."""

import base64
import hashlib
import json
import re
from urllib.parse import parse_qs

import yaml

from .metadata import problems
from .repos import API, PAGE, REV, Answer, File, Refused, Repo, entries, front_matter, is_lfs, route

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
        errors, warnings = problems(request.json["repoType"], front_matter(request.json["content"]))
    except yaml.YAMLError as error:
        errors, warnings = [f"Invalid YAML in README.md: {error}"], []
    body = {"errors": [{"message": one} for one in errors], "warnings": [{"message": one} for one in warnings]}
    return Answer(400, json.dumps(body).encode()) if errors else body


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
