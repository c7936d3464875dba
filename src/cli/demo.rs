//! `lameduck demo`: three instances of a built-in app, lameduck, a steady load, and two rolling restarts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::rt::output::{print_answer, say};
use crate::tools::demo::instance::{DemoInstance, Program};
use crate::tools::demo::load::{Load, LoadPlan};
use crate::tools::demo::oracle::{Evidence, LoadAccount};
use crate::tools::demo::proxy::{DemoProxy, ProxySettings};
use crate::tools::demo::roll;
use crate::tools::demo::scratch::ScratchDir;
use crate::tools::demo::screen::{Picture, Screen};

/// Time that the load runs before the first restart and after the last.
const LOAD_MARGIN: Duration = Duration::from_secs(1);
/// Deadline of each drain, far above the 2 s of the slowest request.
const DEADLINE: Duration = Duration::from_secs(30);
/// Exit code if interrupted.
const INTERRUPTED: u8 = 130;

/// Restarts a demo app behind lameduck under load, and counts what was lost.
///
/// Starts instances of a built-in app, lameduck in front of them, and a steady load (80 % GET, 10 % POST,
/// 10 % GET that take 2 s). Then every instance is restarted, one after the other: drain, SIGTERM, start,
/// ready. Needs nothing but this binary. Exits with 1 if a request was lost.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Requests a second.
    #[arg(long, default_value_t = 200, env = "LAMEDUCK_DEMO_RATE", value_parser = clap::value_parser!(u32).range(1..=5000))]
    pub rate: u32,
    /// How often every instance is restarted.
    #[arg(long, default_value_t = 2, env = "LAMEDUCK_DEMO_ROLLS", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rolls: u32,
    /// Instances of the app; at least two, or there is nowhere to go while one restarts.
    #[arg(long, default_value_t = 3, env = "LAMEDUCK_DEMO_INSTANCES", value_parser = clap::value_parser!(u16).range(2..=20))]
    pub instances: u16,
    /// Leave everything running at the end, to look around, until Ctrl-C.
    #[arg(long, env = "LAMEDUCK_DEMO_KEEP")]
    pub keep: bool,
    /// Print the account as JSON; progress goes to standard error.
    #[arg(long, env = "LAMEDUCK_DEMO_JSON")]
    pub json: bool,
}

/// Runs the demo. Returns the exit code: 0 if no request was lost, 1 if one was, 130 if interrupted.
pub fn run_demo(args: DemoArgs) -> u8 {
    // A single thread, because children are killed when the thread that started them ends.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = runtime
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(until_interrupted(&args)));
    match ended {
        Ok(code) => code,
        Err(error) => {
            say(&format!("lameduck demo: {error:#}\n"));
            1
        }
    }
}

/// Runs the demo until it ends or is interrupted. `play` owns everything that it starts, so an interrupt stops all of
/// it.
async fn until_interrupted(args: &DemoArgs) -> Result<u8> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = play(args) => ended,
        _ = interrupt.recv() => Ok(INTERRUPTED),
        _ = terminate.recv() => Ok(INTERRUPTED),
    }
}

async fn play(args: &DemoArgs) -> Result<u8> {
    let exe = std::env::current_exe().context("can't tell where this binary is")?;
    let scratch = ScratchDir::new("lameduck-demo").context("can't make a temporary directory")?;
    let screen = Screen::new(args.json);
    let DemoArgs {
        rate,
        rolls,
        instances,
        ..
    } = *args;
    screen.line(&format!(
        "\nlameduck demo: {instances} instances of an app, {rate} requests/s, every instance restarted {}.\n",
        times(rolls)
    ));
    let mut instances = launch(&exe, args.instances, scratch.path()).await?;
    let mut proxy =
        DemoProxy::start(&exe, "proxy", scratch.path(), &settings(), &instances).await?;
    proxy.eligible().await?;
    introduce(&screen, &proxy);
    let load = Load::start(LoadPlan::new(proxy.address(), rate));
    tokio::select! {
        rolled = roll_all(&mut instances, &proxy, rolls, &screen) => rolled?,
        () = show(&screen, &proxy, &load) => {}
    }
    let sent = load.stop().await;
    screen.end();
    let (held, retried) = proxy.counts().await?;
    let lives = instances
        .iter()
        .map(DemoInstance::lives)
        .collect::<Result<Vec<_>>>()?
        .concat();
    let account = LoadAccount::of(&Evidence {
        sent,
        lives,
        held,
        retried,
    });
    report(&account, &screen, args.json)?;
    if args.keep {
        screen.line("\n  All of it is still running, without the load. Ctrl-C ends it.");
        std::future::pending::<()>().await;
    }
    // The proxy is stopped in order. That takes no time, because it is idle. Whatever still runs is killed when it is
    // dropped.
    proxy.stop(Duration::from_secs(5)).await?;
    Ok(u8::from(!account.is_clean()))
}

async fn launch(exe: &Path, count: u16, dir: &Path) -> Result<Vec<DemoInstance>> {
    let mut instances = Vec::new();
    for n in 1..=count {
        instances
            .push(DemoInstance::launch(&format!("app-{n}"), &Program::built_in(exe), dir).await?);
    }
    Ok(instances)
}

/// Default settings, except for a short shutdown.
fn settings() -> ProxySettings {
    ProxySettings {
        server: "lame_duck = \"0s\"".into(),
        ..ProxySettings::default()
    }
}

fn introduce(screen: &Screen, proxy: &DemoProxy) {
    let lameduck: PathBuf = std::env::args_os()
        .next()
        .map_or_else(|| "lameduck".into(), Into::into);
    screen.line(&format!("  proxy   http://{}/", proxy.address()));
    screen.line(&format!("  admin   {}", proxy.socket().display()));
    screen.line(&format!("  config  {}", proxy.config().display()));
    screen.line(&format!(
        "  watch   {} status --watch --admin {}\n",
        lameduck.display(),
        proxy.socket().display()
    ));
}

async fn roll_all(
    instances: &mut [DemoInstance],
    proxy: &DemoProxy,
    rolls: u32,
    screen: &Screen,
) -> Result<()> {
    tokio::time::sleep(LOAD_MARGIN).await;
    for round in 1..=rolls {
        screen.round(round);
        for instance in instances.iter_mut() {
            roll::restart(instance, proxy, DEADLINE, &|name, step| {
                screen.step(name, step)
            })
            .await?;
        }
    }
    tokio::time::sleep(LOAD_MARGIN).await;
    Ok(())
}

/// Redraws the live view ten times a second; never ends.
async fn show(screen: &Screen, proxy: &DemoProxy, load: &Load) {
    let mut due = tokio::time::interval(Duration::from_millis(100));
    loop {
        due.tick().await;
        let pool = proxy.pool().await.ok();
        screen.picture(Picture {
            progress: load.progress(),
            pool,
        });
    }
}

fn report(account: &LoadAccount, screen: &Screen, json: bool) -> Result<()> {
    if json {
        print_answer(&serde_json::to_string_pretty(account)?);
        return Ok(());
    }
    screen.line(&format!("\n{account}"));
    screen.line(&match account.is_clean() {
        true => screen.paint(
            32,
            "  Not one request was lost, and none reached an instance that was being stopped.",
        ),
        false => screen.paint(
            31,
            "  The promise was broken: see the lines above. Please report this.",
        ),
    });
    Ok(())
}

fn times(rolls: u32) -> String {
    match rolls {
        1 => "once".into(),
        2 => "twice".into(),
        n => format!("{n} times"),
    }
}
