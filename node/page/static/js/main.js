/** Puts the page together; everything else is passed what it needs. */

import { startBlocks } from "./blocks.js";
import { Connection } from "./connection.js";
import { Detail } from "./detail.js";
import { startFeed } from "./feed.js";
import { startFrame } from "./frame.js";
import { SwarmGraph } from "./graph.js";
import { LossChart } from "./loss_chart.js";
import { startOverview } from "./overview.js";
import { Owner } from "./owner.js";
import { startPause } from "./pause.js";
import { PeerTable } from "./peer_table.js";
import { Swarm } from "./swarm.js";
import { startTheme } from "./theme.js";
import { startTimeline } from "./timeline.js";
import { startTraffic } from "./traffic.js";
import { startWaterfall } from "./waterfall.js";

const swarm = new Swarm();
const connection = new Connection(swarm);
const owner = new Owner(swarm);
const detail = new Detail(swarm, owner);

startTheme(swarm);
startFrame(swarm, () => connection.retryNow());
startOverview(swarm);
startPause(swarm);
new LossChart(swarm);
new SwarmGraph(swarm, (peer) => detail.showPeer(peer));
startWaterfall(swarm, (round) => detail.showRound(round));
startTimeline(swarm);
startBlocks(swarm);
startTraffic(swarm);
new PeerTable(swarm, (peer) => detail.showPeer(peer));
startFeed(swarm);

connection.open();
