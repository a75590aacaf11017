# syntax=docker/dockerfile:1
# A base with Python 3.11 or later, pip and apt; the Python of both stages is the same.
ARG BASE=docker.io/library/python:3.13-slim-bookworm

FROM ${BASE} AS build
# A package index in place of PyPI.
ARG PIP_INDEX_URL
# Add ",cluster" for gateways of a cluster: 20 MB more.
ARG EXTRAS=kerberos,compression,page
WORKDIR /src
# The compiler is for Kerberos, whose package has no wheels, and stays in this stage.
# Debian keeps one version of a package: one that is named here would soon be gone.
# hadolint ignore=DL3008
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
    binutils gcc libc6-dev libkrb5-dev python3-dev
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY etc etc
COPY gateway gateway
COPY twisted twisted
RUN python3 -m venv --without-pip /opt/pop3gw \
 && python3 -m pip --python /opt/pop3gw/bin/python3 install \
    --no-cache-dir --no-compile --disable-pip-version-check ".[${EXTRAS}]" \
 && find /opt/pop3gw -depth -type d '(' -name test -o -name tests ')' -exec rm -r '{}' + \
 # The page is in English and German; the languages of Babel take 30 MB.
 && find /opt/pop3gw -path '*/babel/locale-data/*.dat' \
    ! -name root.dat ! -name 'en*.dat' ! -name 'de*.dat' -delete \
 && find /opt/pop3gw -name '*.so' -exec strip --strip-unneeded '{}' +
WORKDIR /
# The root is read-only later: compile what the server may import, and find twistd's plugins.
RUN /opt/pop3gw/bin/python3 -m compileall -q -j 0 \
    -x '/(conch|names|pair|pygments|spread|words)/' /opt/pop3gw/lib \
 && /opt/pop3gw/bin/twistd --help > /dev/null

FROM ${BASE}
# tini is process 1: it passes signals on and collects processes that lost their parent. Its -e 143
# makes the end by SIGTERM, which twistd dies of when all is done, exit code 0.
# hadolint ignore=DL3008
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
    libgssapi-krb5-2 tini \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/* \
 && groupadd --gid 10001 pop3gw \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/pop3gw --no-create-home \
    --shell /usr/sbin/nologin pop3gw \
 # Group 0 is that of platforms which choose the user id, such as OpenShift.
 && install -d -o 10001 -g 0 -m 770 /var/lib/pop3gw \
 && python3 -m pip uninstall --quiet --yes --root-user-action=ignore pip \
 && rm -rf "$(python3 -c 'import ensurepip; print(*ensurepip.__path__)')"
COPY --from=build /opt/pop3gw /opt/pop3gw
COPY etc/pop3gw.toml /etc/pop3gw/pop3gw.toml
ENV PATH=/opt/pop3gw/bin:$PATH \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    POP3GW_CONFIG=/etc/pop3gw/pop3gw.toml \
    POP3GW_STATE_DIR=/var/lib/pop3gw \
    POP3GW_LISTENERS__POP3__ENDPOINT=tcp:1110:backlog=1024 \
    POP3GW_LISTENERS__POP3S__ENDPOINT=tcp:1995:backlog=1024 \
    POP3GW_PROCESSES__WORKERS=auto \
    # Docker kills a container 10 seconds after it told it to stop.
    POP3GW_LIMITS__DRAIN_TIMEOUT=8
# Compiles those modules of the base that the server and its commands import.
RUN POP3GW_DEMO=true pop3gw config show --json > /dev/null \
 && POP3GW_DEMO=true twistd -n --pidfile= pop3gw --check > /dev/null \
 && { POP3GW_DEMO=true pop3gw health > /dev/null || true; }
ARG BASE
ARG VERSION=0.1.0
ARG REVISION=
ARG CREATED=
LABEL org.opencontainers.image.title="pop3gw" \
      org.opencontainers.image.description="A POP3 and LMTP server for Maildirs" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.url="https://pypi.org/project/pop3gw/" \
      org.opencontainers.image.documentation="https://pypi.org/project/pop3gw/" \
      org.opencontainers.image.vendor="The pop3gw maintainers" \
      org.opencontainers.image.base.name="${BASE}"
USER 10001:10001
WORKDIR /var/lib/pop3gw
VOLUME /var/lib/pop3gw
EXPOSE 1110 1995
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["pop3gw", "health"]
ENTRYPOINT ["tini", "-s", "-e", "143", "--", "twistd", "-n", "--pidfile=", "pop3gw"]
