/* SPDX-License-Identifier: Apache-2.0 */
#include "checks/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/btrfs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>

#include "checks/root.h"
#include "common/connect.h"
#include "common/io.h"
#include "common/macro.h"

/* The whole of the checks has two seconds; the initramfs may take one, the CPU half of one. */
#define OUTPUT_MS 450

static int live_space(void *arg, const struct chk_root *root, const char *path,
		      struct chk_space *ret)
{
	_cleanup_close_ int fd = chk_open(root, path, O_PATH | O_DIRECTORY);
	struct statvfs v;
	uint64_t unit;

	(void)arg;
	if (fd < 0)
		return fd;
	if (fstatvfs(fd, &v) < 0)
		return -errno;
	unit = v.f_frsize ? v.f_frsize : v.f_bsize;
	*ret = (struct chk_space){
		.size = v.f_blocks * unit,
		.free_size = v.f_bfree * unit,
		.avail_size = v.f_bavail * unit,
		.inodes = v.f_files,
		.free_inodes = v.f_ffree,
		.block_size = (uint32_t)unit,
	};
	return 0;
}

static int live_permanent_mac(void *arg, const char *interface, char *ret)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	union {
		struct ethtool_perm_addr head;
		uint8_t bytes[sizeof(struct ethtool_perm_addr) + 32];
	} a = { .head = { .cmd = ETHTOOL_GPERMADDR, .size = 32 } };
	struct ifreq q = { 0 };
	const uint8_t *m = a.bytes + sizeof(a.head);

	(void)arg;
	if (fd < 0)
		return -errno;
	snprintf(q.ifr_name, sizeof(q.ifr_name), "%s", interface);
	q.ifr_data = (void *)&a;
	if (ioctl(fd, SIOCETHTOOL, &q) < 0)
		return -errno;
	if (a.head.size != 6)
		return -ENODATA;
	snprintf(ret, 18, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
	return 0;
}

static int live_addresses(void *arg, chk_address_fn *fn, void *fn_arg)
{
	struct ifaddrs *all = NULL;

	(void)arg;
	if (getifaddrs(&all) < 0)
		return -errno;
	for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
		char address[INET6_ADDRSTRLEN + 32] = "", mask[64] = "", *zone;
		int family = a->ifa_addr ? a->ifa_addr->sa_family : AF_UNSPEC;
		socklen_t n = family == AF_INET ? sizeof(struct sockaddr_in) :
						  sizeof(struct sockaddr_in6);

		if ((family != AF_INET && family != AF_INET6) ||
		    getnameinfo(a->ifa_addr, n, address, sizeof(address), NULL, 0,
				NI_NUMERICHOST))
			continue;
		if (family == AF_INET && a->ifa_netmask)
			(void)getnameinfo(a->ifa_netmask, n, mask, sizeof(mask), NULL, 0,
					  NI_NUMERICHOST);
		zone = strchr(address, '%');
		if (zone)
			*zone = '\0';
		fn(fn_arg, a->ifa_name, family, address, mask);
	}
	freeifaddrs(all);
	return 0;
}

static void uuid_text(const uint8_t u[16], char ret[40])
{
	char *at = ret;

	for (size_t i = 0; i < 16; i++)
		at += sprintf(at, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", u[i]);
}

static int live_subvolume(void *arg, const struct chk_root *root, const char *path,
			  struct chk_subvolume_info *ret)
{
	_cleanup_close_ int fd = chk_open(root, path, O_RDONLY | O_DIRECTORY);
	struct btrfs_ioctl_get_subvol_info_args a = { 0 };
	static const uint8_t none[16];

	(void)arg;
	if (fd < 0)
		return fd;
	if (ioctl(fd, BTRFS_IOC_GET_SUBVOL_INFO, &a) < 0)
		return -errno;
	*ret = (struct chk_subvolume_info){ .id = a.treeid, .parent_id = a.parent_id };
	snprintf(ret->name, sizeof(ret->name), "%.255s", a.name);
	ret->is_snapshot = memcmp(a.parent_uuid, none, sizeof(none)) != 0;
	uuid_text(a.uuid, ret->uuid);
	return 0;
}

static void cap_free_p(cap_t *c)
{
	if (*c)
		cap_free(*c);
}

static bool has_cap(cap_t caps, cap_value_t which)
{
	cap_flag_value_t v = CAP_CLEAR;

	return cap_get_flag(caps, which, CAP_EFFECTIVE, &v) == 0 && v == CAP_SET;
}

static int live_privileges(void *arg, bool *ret_root, bool *ret_reads_all, struct err *e)
{
	_cleanup_(cap_free_p) cap_t caps = cap_get_proc();

	(void)arg;
	if (!caps)
		return err_sys(e, "read the capabilities of this process");
	*ret_reads_all = has_cap(caps, CAP_DAC_READ_SEARCH) || has_cap(caps, CAP_DAC_OVERRIDE);
	/* In a container uid 0 may be root by name only. */
	*ret_root = geteuid() == 0 && *ret_reads_all && has_cap(caps, CAP_SYS_ADMIN);
	return 0;
}

/* Read until the end, or until the time is over.  0 or -errno. */
static int read_output(int fd, int64_t until, char *ret, size_t size)
{
	size_t n = 0;

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int64_t left = (until - clock_mono_ns()) / 1000000;
		char scrap[512];
		ssize_t got;

		if (left <= 0 || poll(&p, 1, (int)left) == 0)
			return -ETIMEDOUT;
		/* What does not fit is read as well, so that the program can end. */
		got = n < size - 1 ? read(fd, ret + n, size - 1 - n) :
				     read(fd, scrap, sizeof(scrap));
		if (got < 0 && errno != EINTR)
			return -errno;
		if (got == 0)
			return 0;
		if (got > 0 && n < size - 1)
			n += (size_t)got;
		ret[n] = '\0';
	}
}

/* The status of a program that should have ended by then; -ETIMEDOUT: it was killed. */
static int wait_for(pid_t pid, int64_t until, int *status)
{
	bool late = false;
	pid_t r;

	while ((r = waitpid(pid, status, late ? 0 : WNOHANG)) == 0 || (r < 0 && errno == EINTR)) {
		late = late || clock_mono_ns() > until;
		if (r == 0 && late)
			kill(pid, SIGKILL);
		else if (r == 0)
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	return r < 0 ? -errno : late ? -ETIMEDOUT : 0;
}

static int live_output(void *arg, const char *program, const char *argument, char *ret,
		       size_t size, struct err *e)
{
	char *argv[] = { (char *)program, (char *)argument, NULL };
	char *envp[] = { (char *)"LC_ALL=C", (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	posix_spawn_file_actions_t actions;
	int64_t until = clock_mono_ns() + INT64_C(1000000) * OUTPUT_MS;
	int fds[2], status, r, waited;
	pid_t pid;

	(void)arg;
	ret[0] = '\0';
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(e, "run %s: pipe", program);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	r = -posix_spawn(&pid, program, &actions, NULL, argv, envp);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	if (r < 0) {
		close(fds[0]);
		return err_sysn(e, r, "run %s", program);
	}
	r = read_output(fds[0], until, ret, size);
	close(fds[0]);
	waited = wait_for(pid, r < 0 ? 0 : until, &status);
	r = r < 0 ? r : waited;
	if (r < 0)
		return err_sysn(e, r, "run %s %s", program, argument);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return err_set(e, -EIO, "%s %s failed", program, argument);
	return 0;
}

static int live_connect(void *arg, const char *host, unsigned port, unsigned timeout_ms,
			unsigned *ret_ms, struct err *e)
{
	int64_t from = clock_mono_ns();
	int fd = -1, r;

	(void)arg;
	r = connect_tcp(host, (uint16_t)port, (int)timeout_ms, NULL, &fd, NULL, e);
	if (r < 0)
		return r;
	close(fd);
	*ret_ms = (unsigned)((clock_mono_ns() - from) / 1000000);
	return 0;
}

static void live_sleep_ms(void *arg, unsigned ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	(void)arg;
	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

static int64_t live_mono_ns(void *arg)
{
	(void)arg;
	return clock_mono_ns();
}

const struct chk_sys chk_sys_live = {
	.space = live_space,
	.permanent_mac = live_permanent_mac,
	.addresses = live_addresses,
	.subvolume = live_subvolume,
	.privileges = live_privileges,
	.output = live_output,
	.connect = live_connect,
	.sleep_ms = live_sleep_ms,
	.mono_ns = live_mono_ns,
};

/* The host that runs this program must not answer for another system. */

static int none_permanent_mac(void *arg, const char *interface, char *ret)
{
	(void)arg;
	(void)interface;
	(void)ret;
	return -ENODATA;
}

static int none_addresses(void *arg, chk_address_fn *fn, void *fn_arg)
{
	(void)arg;
	(void)fn;
	(void)fn_arg;
	return -ENODATA;
}

const struct chk_sys chk_sys_root = {
	.space = live_space,
	.permanent_mac = none_permanent_mac,
	.addresses = none_addresses,
	.subvolume = live_subvolume,
	.privileges = live_privileges,
	.output = live_output,
	.connect = live_connect,
	.sleep_ms = live_sleep_ms,
	.mono_ns = live_mono_ns,
};
