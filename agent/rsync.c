/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rsync.h"

#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "agent/child.h"
#include "agent/command.h"
#include "agent/stop.h"
#include "checks/root.h"
#include "common/log.h"

/* The first that is there is used; lists that are missing or too old are fetched once. */
static const struct manager {
	const char *program;
	const char *install[6], *refresh[4];
} managers[] = {
	{ "apt-get", { "-y", "-q", "install", "rsync" }, { "-q", "update" } },
	{ "dnf", { "-y", "-q", "install", "rsync" }, { NULL } },
	{ "yum", { "-y", "-q", "install", "rsync" }, { NULL } },
	{ "zypper", { "--non-interactive", "install", "rsync" },
	  { "--non-interactive", "refresh" } },
};

/* The exit status, or negative. */
static int run(const struct agt_context *ctx, const char *path, const char *const *args,
	       struct err *e)
{
	/* Scripts of packages have no business with the target's password, either. */
	static char *const blot[] = { (char *)"RSYNC_TARGET_PASSWORD=", NULL };
	_cleanup_free_ char **env = agt_child_env(ctx->envp, blot);
	posix_spawn_file_actions_t actions;
	const char *argv[8] = { path };
	posix_spawnattr_t attr;
	int status, r;
	pid_t pid;

	if (!env)
		return err_sysn(e, -ENOMEM, "run %s", path);
	for (size_t i = 0; args[i] && i + 2 < ARRAY_SIZE(argv); i++)
		argv[i + 1] = args[i];
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", 0, 0);
	posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &ctx->stop->old);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	r = -posix_spawn(&pid, path, &actions, &attr, (char **)argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	if (r < 0)
		return err_sysn(e, r, "run %s", path);
	/* A package manager is not to be broken off half-way; a signal from a terminal reaches it. */
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_sys(e, "wait for %s", path);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int install(const struct agt_context *ctx, const struct manager *m, const char *path,
		   struct err *e)
{
	int r;

	log_info("installing rsync with %s", path);
	r = run(ctx, path, m->install, e);
	if (r > 0 && m->refresh[0]) {
		r = run(ctx, path, m->refresh, e);
		if (r >= 0)
			r = run(ctx, path, m->install, e);
	}
	if (r > 0)
		return err_set(e, -EIO, "%s could not install rsync (exit %d): it needs root and a repository that can be reached, if need be by its own proxy settings",
			       path, r);
	return r;
}

int agt_rsync_install(const struct agt_context *ctx, struct err *e)
{
	struct chk_root root;
	char path[256];
	int r = chk_root_open(NULL, &root, e);

	if (r < 0)
		return r;
	r = -ENOENT;
	if (chk_find_program(&root, "rsync", path + 1, sizeof(path) - 1)) {
		log_info("rsync is installed already");
		r = 0;
	}
	path[0] = '/';
	for (size_t i = 0; i < ARRAY_SIZE(managers) && r == -ENOENT; i++)
		if (chk_find_program(&root, managers[i].program, path + 1, sizeof(path) - 1))
			r = install(ctx, &managers[i], path, e);
	chk_root_close(&root);
	if (r == -ENOENT)
		return err_set(e, r, "no package manager that is known here (apt-get, dnf, yum, zypper): install rsync by hand");
	return r;
}
