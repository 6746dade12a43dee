"""What the Hub answers, route by route."""

import base64
import hashlib
import json

import yaml

from .metadata import problems
from .repos import API, LFS_SUFFIXES, PAGE, REV, Answer, File, Refused, Repo, entries, front_matter, route

# Repos


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


@route("GET", API)
@route("GET", API + "/revision" + REV)
def info(hub, request, repo, rev="main"):
    return repo.about(rev)


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
    all_entries, folder = entries(repo.at(rev).files), path + "/" if path else ""
    if path and all_entries.get(path, {}).get("type") != "directory":
        raise Refused(404, f"{path} does not exist on {rev}", "EntryNotFound")
    below = {name[len(folder) :]: entry for name, entry in all_entries.items() if name.startswith(folder)}
    deep = request.query.get("recursive", ["false"])[0].lower() == "true"
    return [entry for name, entry in below.items() if deep or "/" not in name]


@route("GET", PAGE + "/resolve" + REV + "/(?P<path>.+)", "downloader")
def resolve(hub, request, repo, rev, path):
    commit = repo.at(rev)
    if path not in commit.files:
        raise Refused(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": commit.oid})
    if request.method == "GET":
        hub.downloads.append(path)
    file = commit.files[path]
    headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{file.etag}"'}
    if file.lfs:
        headers |= {"X-Linked-Size": str(len(file.data)), "X-Linked-ETag": f'"{file.etag}"'}
    return Answer(200, file.data, headers)


# Commits


@route("POST", API + "/preupload" + REV, "writer")
def preupload(hub, request, repo, rev):
    files, present = request.json["files"], repo.at(rev).files
    modes = {file["path"]: "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular" for file in files}
    oids = {path: present[path].etag if path in present else None for path in modes}
    return {"files": [{"path": p, "uploadMode": modes[p], "shouldIgnore": False, "oid": oids[p]} for p in modes]}


@route("POST", PAGE + r"\.git/info/lfs/objects/batch", "reader")
def lfs_batch(hub, request, repo):
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
    ref = f"refs/pr/{1 + sum(name.startswith('refs/pr/') for name in repo.refs)}" if new_pull else ref
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


CHANGES = {"file": add_file, "lfsFile": add_lfs_file, "deletedFile": delete_file}


# Revisions


@route("POST", API + "/(?P<what>branch|tag)/(?P<name>[^/]+)", "writer")
def add_ref(hub, request, repo, what, name):
    """Make a branch called `name`, or a tag at the revision `name`."""
    tag = request.json["tag"] if what == "tag" else None
    ref = f"refs/tags/{tag}" if tag else f"refs/heads/{name}"
    if ref in repo.refs:
        raise Refused(409, f"Reference already exists: {ref}")
    repo.refs[ref] = repo.at(name if tag else request.json.get("startingPoint", "main")).oid
    return {}
